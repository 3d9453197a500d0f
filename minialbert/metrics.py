"""Predictions to scores: GLUE's metrics, entities' F1, and Table 1's average (paper, section 4).

predictions -> tag_words -> compute_metrics, entity_f1 -> scores -> glue_average
"""

import math

import numpy as np
import scipy.stats
import sklearn.metrics
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

_COLUMNS = "mnli_matched mnli_mismatched qqp qnli sst2 cola stsb mrpc rte"
GLUE_COLUMNS = tuple(_COLUMNS.split())


class TaskError(ValueError):
    """A task, its data or its predictions that cannot work; the message says what to change."""


def compute_metrics(task, predictions, references) -> dict[str, float]:
    """The task's metrics as fractions, in the order of task.metrics.

    Args:
        predictions: classification: (N,) ids or (N, C) logits; regression: (N,) or (N, 1); tagging:
            N lists of tag ids, a tag a word (`tag_words`).
        references: (N,) ids or scores; tagging: N lists as long.

    Where one side is constant, Pearson, Spearman and Matthews are 0; F1 of nothing is 0. F1 is that
    of label 1 for two classes, the mean over classes for more.

    Raises:
        TaskError: no rows, not as many predictions as references, or NaN among them.
    """
    if len(predictions) != len(references) or not len(references):
        counts = f"{len(predictions)} predictions for {len(references)} references"
        raise TaskError(f"{counts}: give one each, at least one")
    if task.kind == "tagging":
        scores = _entities(task, predictions, references)
        return {name: scores[name] for name in task.metrics}
    predictions, references = np.asarray(predictions), np.asarray(references)
    if not np.isfinite(predictions).all():
        raise TaskError("predictions hold NaN or infinity: the training diverged")
    if predictions.ndim == 2:
        regression = task.kind == "regression"
        predictions = predictions.squeeze(-1) if regression else predictions.argmax(-1)
    average = "macro" if len(task.labels) > 2 else "binary"
    return {name: _score(name, predictions, references, average) for name in task.metrics}


def _score(metric, predictions, references, average) -> float:
    constant = np.ptp(predictions) == 0 or np.ptp(references) == 0
    if metric == "accuracy":
        score = sklearn.metrics.accuracy_score(references, predictions)
    elif metric == "f1":
        score = sklearn.metrics.f1_score(references, predictions, average=average, zero_division=0)
    elif constant:
        score = 0.0
    elif metric == "matthews":
        score = sklearn.metrics.matthews_corrcoef(references, predictions)
    elif metric == "pearson":
        score = scipy.stats.pearsonr(predictions, references).statistic
    else:
        score = scipy.stats.spearmanr(predictions, references).statistic
    return float(np.nan_to_num(score))


def _entities(task, predicted, references) -> dict[str, float]:
    """seqeval's scores of lists of tag ids."""
    for row, (tags, words) in enumerate(zip(predicted, references, strict=True)):
        if len(tags) != len(words):
            raise TaskError(f"row {row} has {len(tags)} tags for {len(words)} words: use tag_words")
    truth = [[task.labels[tag] for tag in row] for row in references]
    named = [[task.labels[tag] for tag in row] for row in predicted]
    scores = precision_recall_fscore_support(truth, named, average="micro", zero_division=0)
    return {"f1": float(scores[2]), "precision": float(scores[0]), "recall": float(scores[1])}


def _piece_tags(logits, row) -> np.ndarray:
    """(pieces,) predicted tag ids of one row, padding cut off."""
    logits = np.asarray(logits)[: len(row["word_ids"])]
    return logits.argmax(-1) if logits.ndim == 2 else logits


def tag_words(logits_per_row, encoded) -> tuple[list[list[int]], int]:
    """A tag for every word of every row, that of its first piece, and how many words had none.

    Args:
        logits_per_row: N arrays (pieces, C), or (pieces,) of tag ids; may be padded on the right.
        encoded: the N rows of `encode`.

    Words that the tokenizer drops and words beyond max_length are tagged O: an entity there counts
    as missed.
    """
    result, lost = [], 0
    for logits, row in zip(logits_per_row, encoded, strict=True):
        tags = {}
        for word, tag in zip(row["word_ids"], _piece_tags(logits, row), strict=True):
            tags.setdefault(word, int(tag))
        result.append([tags.get(word, 0) for word in range(len(row["tags"]))])
        lost += len(row["tags"]) - len(tags.keys() - {-1})
    return result, lost


def entity_f1(task, logits_per_row, encoded, protocol="words") -> dict[str, float]:
    """f1, precision and recall of entities, by seqeval, as fractions; arguments as in `tag_words`.

    protocol "words", the standard: an entity is right if its words are exactly right.
    protocol "published": each word's label is repeated on all of its pieces and pieces are scored,
    so a word B of three pieces counts as three entities; words without pieces are not counted. A
    piece without a label of its own in `encoded` takes the prediction of its word's first one.
    """
    if protocol not in ("words", "published"):
        raise TaskError(f"protocol={protocol!r}: use 'words' or 'published'")
    if protocol == "words":
        return _entities(task, tag_words(logits_per_row, encoded)[0], encoded["tags"])
    predicted, references = [], []
    for logits, row in zip(logits_per_row, encoded, strict=True):
        tags, first = [], 0
        pieces = zip(row["word_ids"], row["labels"], _piece_tags(logits, row), strict=True)
        for word, label, tag in pieces:
            first = int(tag) if label != -100 else first
            if word >= 0:
                tags.append(first)
        predicted.append(tags)
        references.append([row["tags"][word] for word in row["word_ids"] if word >= 0])
    return _entities(task, predicted, references)


def glue_average(scores, missing="error") -> float:
    """Table 1's Avg: the mean of GLUE_COLUMNS in percent (MNLI's two apart), cut to two decimals.

    Args:
        scores: {column: percent}; a column that is not there, None, NaN or "N/A" is missing.
        missing: "error"; "skip", the mean of the others; or "zero", as the paper's rows with N/A
            count it.
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
        ways = "missing='skip' (mean of the others) or 'zero' (as the paper's N/A)"
        raise TaskError(f"no score for {', '.join(absent)}: run them, or say {ways}")
    if max(map(abs, there.values())) <= 1:
        raise TaskError("scores look like fractions: the average is of percent, multiply by 100")
    mean = math.fsum(there.values()) / (len(there) if missing == "skip" else len(GLUE_COLUMNS))
    return math.trunc(round(mean * 100, 6)) / 100  # rounded first: 57.05 is a little less in binary
