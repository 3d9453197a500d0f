"""Predictions to scores: GLUE's metrics, entities' F1, and Table 1's average (paper, section 4).

predictions -> (of tagging: tag_words) -> compute_metrics, entity_f1 -> scores -> glue_average
"""

import math

import numpy as np
import pandas as pd
import scipy.stats
import sklearn.metrics
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

GLUE_COLUMNS = tuple("mnli_matched mnli_mismatched qqp qnli sst2 cola stsb mrpc rte".split())


class TaskError(ValueError):
    """A task, its data or its predictions that cannot work; the message says what to change."""


def refuse(condition, message):
    """Raise a TaskError where the condition holds."""
    if condition:
        raise TaskError(message)


def compute_metrics(task, predictions, references) -> dict[str, float]:
    """The task's metrics as fractions, in the order of task.metrics.

    Args:
        predictions: classification: (N,) ids or (N, C) logits; regression: (N,) or (N, 1); tagging:
            N lists of tag ids, a tag a word (`tag_words`).
        references: (N,) ids or scores; tagging: N lists as long.

    Where one side is constant, Pearson, Spearman and Matthews are 0; F1 of nothing is 0. F1 is that
    of label 1 for two classes, the mean over classes for more. TaskError: no rows, not as many
    predictions as references, or NaN among them.
    """
    count = len(predictions)
    refuse(not count == len(references) > 0, f"{count} predictions for {len(references)} rows")
    if task.kind == "tagging":
        scores = _entities(task, predictions, references)
        return {name: scores[name] for name in task.metrics}
    predictions, references = np.asarray(predictions), np.asarray(references)
    refuse(not np.isfinite(predictions).all(), "predictions hold NaN: the training diverged")
    if predictions.ndim == 2:
        is_regression = task.kind == "regression"
        predictions = predictions.squeeze(-1) if is_regression else predictions.argmax(-1)
    average = "macro" if len(task.labels) > 2 else "binary"
    return {name: float(_score(name, predictions, references, average)) for name in task.metrics}


def _score(metric, predictions, references, average):
    if metric == "accuracy":
        return sklearn.metrics.accuracy_score(references, predictions)
    if metric == "f1":
        return sklearn.metrics.f1_score(references, predictions, average=average, zero_division=0)
    if metric == "matthews":
        return sklearn.metrics.matthews_corrcoef(references, predictions)
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    correlation = scipy.stats.pearsonr if metric == "pearson" else scipy.stats.spearmanr
    return correlation(predictions, references).statistic


def _entities(task, predicted, references):
    """seqeval's scores of lists of tag ids."""
    as_long = [*map(len, predicted)] == [*map(len, references)]
    refuse(not as_long, "there is not one tag for each word: use tag_words")
    truth = [[task.labels[tag] for tag in row] for row in references]
    named = [[task.labels[tag] for tag in row] for row in predicted]
    scores = precision_recall_fscore_support(truth, named, average="micro", zero_division=0)
    return {"f1": float(scores[2]), "precision": float(scores[0]), "recall": float(scores[1])}


def _piece_tags(logits, row):
    """(pieces,) predicted tag ids of one row, padding cut off."""
    logits = np.asarray(logits)[: len(row["word_ids"])]
    return logits.argmax(-1) if logits.ndim == 2 else logits


def tag_words(logits_per_row, encoded) -> tuple[list[list[int]], int]:
    """A tag for every word of every row, that of its first piece, and how many words had none.

    Those that the tokenizer drops or cuts off are tagged O: an entity there counts as missed.

    Args:
        logits_per_row: N arrays (pieces, C), or (pieces,) of tag ids; may be padded on the right.
        encoded: the N rows of `encode`.
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
    refuse(protocol not in ("words", "published"), f"protocol={protocol!r}: words or published")
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
        missing: "error", "skip" (the mean of the others), or "zero", as the paper counts its N/A.
    """
    unknown = sorted(scores.keys() - {*GLUE_COLUMNS})
    refuse(unknown, f"unknown columns {unknown}; known are {', '.join(GLUE_COLUMNS)}")
    percent = pd.to_numeric(pd.Series(scores, GLUE_COLUMNS, object), errors="coerce")
    absent = ", ".join(percent.index[percent.isna()])
    ways = "missing='skip' (mean of the others) or 'zero' (as the paper's N/A)"
    is_short = percent.isna().all() or (absent and missing not in ("skip", "zero"))
    refuse(is_short, f"no score for {absent}: run them, or say {ways}")
    refuse(percent.abs().max() <= 1, "scores look like fractions: multiply by 100")
    mean = percent.fillna(0).mean() if missing == "zero" else percent.mean()
    return math.trunc(round(mean * 100, 6)) / 100  # rounded first: 57.05 is a little less in binary
