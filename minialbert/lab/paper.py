"""The paper's tables as data (tables.csv), and what needs no training: counts, and exact checks.

An exact check is a function that claims.yaml names, with its arguments. It returns whether the
claim is as the paper says, and in words what came out.
"""

import math
from functools import cache
from pathlib import Path

import pandas as pd

from ..tasks import GLUE_COLUMNS, glue_average

GLUE = [*GLUE_COLUMNS]  # Table 1's columns
NER = ["ncbi_disease", "bc5cdr_disease", "bc5cdr_chem", "bc2gm"]  # Table 2's, entity F1
VOCABULARY = {1: 30522, 2: 28996}  # of a table's models


@cache
def _tables() -> pd.DataFrame:
    kinds = {"iterations": "Int64", "rank": "Int64"}
    return pd.read_csv(Path(__file__).with_name("tables.csv"), index_col="key", dtype=kinds)


def table(number: int) -> pd.DataFrame:
    """Table 1, 2, 3 or 4 of the paper, a model or variant a row, scores in percent, N/A as NaN.

    Tables 1 and 2 also have number, name, parameters (millions, as printed; those trained, with
    adapter tuning), hub, iterations (of one shared block), rank (768: not factorised), adapters
    (none, pre-trained, added) and tuning. `average` is the one printed. Tables 3 and 4 have it
    alone; in Table 3 it is the change against a variant that the paper does not name.
    """
    rows = _tables()[_tables()["table"] == number]
    return rows.drop(columns="table").dropna(axis="columns", how="all")


def average(row, missing="skip") -> float:
    """The mean of a row of Table 1 or 2, cut to two decimals; N/A is left out, or "zero"."""
    if "stsb" in row:
        return glue_average(dict(row[GLUE]), missing)
    return math.floor(round(100 * row[NER].mean(), 6)) / 100


def parameters(
    rank=768,
    adapters=False,
    vocabulary=30522,
    iterations=6,
    layers=1,
    hidden=768,
    inner=3072,
    types=2,
    pooler=False,
) -> int:
    """Parameters of an encoder without a masked-LM head (sections 3.2-3.4).

    `layers` are blocks of their own: a student has one, whatever its iterations.
    """
    embeddings = (vocabulary + 512 + types + 2) * rank  # words, positions, types, LayerNorm
    projection = (rank + 1) * hidden if rank != hidden else 0
    block = 4 * (hidden + 1) * hidden + (2 * hidden + 1) * inner + 5 * hidden
    adapter = (2 * hidden + 1) * (hidden // 16) + 3 * hidden
    added = 2 * iterations * adapter if adapters else 0
    head = (hidden + 1) * hidden if pooler else 0
    return embeddings + projection + layers * block + added + head


ADAPTERS = parameters(adapters=True) - parameters()  # what adapter tuning trains besides the head
BLOCK = parameters(layers=2) - parameters()


def operations(rank=128, adapters=True) -> int:
    """Multiply-adds of a token with the weights of a student of K = 6, d = 768 (section 3)."""
    projection = rank * 768 if rank < 768 else 0
    bottlenecks = 6 * 2 * 2 * 768 * 48 if adapters else 0
    return 6 * 12 * 768**2 + bottlenecks + projection


# ---- exact checks: by counting


def sizes():
    least, most = parameters(128, True), parameters(768, True)
    return (round(least / 1e6), round(most / 1e6)) == (12, 32), f"{least:,} to {most:,}"


def sharing():
    return BLOCK == 7_087_872, f"{BLOCK:,} in the block, {12 * BLOCK:,} in BERT-base's twelve"


def one_layer():
    return parameters(iterations=1) == parameters(), f"{BLOCK:,} parameters, whatever K"


def small_adapters():
    share = ADAPTERS / parameters(128, True)
    small = ADAPTERS < 0.1 * parameters(128)
    return small, f"{ADAPTERS:,}, {share:.1%} of the student of rank 128"


def factorisation_saves():
    shown = [f"{parameters(rank):,} at rank {rank}" for rank in (768, 312, 128)]
    return 2 * parameters(128) < parameters(), ", ".join(shown)


def as_complex():
    ratio = operations() / operations(768, adapters=False)
    return ratio < 1.05, f"{ratio:.3f} times the operations of six plain layers"


def speed():
    # a step goes forward, then computes gradients of inputs and of the weights that are trained
    forward, adapters = operations(), operations() - operations(adapters=False)
    ratio = 3 * forward / (2 * forward + adapters)
    return ratio < 1.5, f"by operations at most {ratio:.2f} times"


def wide_range():
    counts = len(GLUE), len(NER)
    return counts == (9, 4), "8 GLUE tasks in 9 columns, 4 NER corpora, no other kind"


def size(number, key):
    row = table(number).loc[key]
    count = parameters(row["rank"], row["adapters"] != "none", VOCABULARY[number])
    if row["tuning"] == "adapter":
        count = ADAPTERS
    digits = 1 if row["parameters"] < 1 else 0
    return round(count / 1e6, digits) == row["parameters"], f"{count:,}"


def baseline_sizes(number, shapes):
    """Of the models for whose printed parameters, in millions, there is a shape."""
    right, shown = True, []
    for _, row in table(number).iterrows():
        printed = row["parameters"]
        if printed in shapes:
            count = parameters(vocabulary=VOCABULARY[number], **shapes[printed]) / 1e6
            right = right and abs(count - printed) <= 1
            shown.append(f"{row['name']} {count:.1f}M, printed {printed:g}M")
    return right, ", ".join(shown)


# ---- exact checks: by the tables; differences are in points


def _signed(numbers) -> str:
    return ", ".join(f"{number:+.2f}" for number in numbers)


def _students(number) -> pd.DataFrame:
    """The fully tuned students of a table."""
    rows = table(number)
    return rows[rows.index.str.contains("minialbert") & (rows["tuning"] == "full")]


def averages(number):
    whole = table(number).dropna(subset=GLUE if number == 1 else NER)
    right = sum(average(row) == row["average"] for _, row in whole.iterrows())
    shown = f"{right} of {len(whole)} rows without N/A; cut, not rounded"
    return right == len(whole), shown


def average_printed(number, key):
    row = table(number).loc[key]
    shown = f"{average(row)} over the columns there are; with N/A as zero {average(row, 'zero')}"
    return row["average"] == average(row), shown


def same_level():
    general = _students(1)["average"].max() / table(1).loc["bert-base", "average"]
    biomedical = _students(2)["average"].max() / table(2).loc["biobert", "average"]
    shown = f"{general:.1%} and {biomedical:.1%} of the teacher's average"
    return min(general, biomedical) >= 0.95, shown


def against_rivals(which, rivals, above, words):
    """The student with the `which` (max, min) average minus the best rival, in both tables."""
    gaps = []
    for number in (1, 2):
        students = _students(number)["average"].agg(which)
        gaps.append(students - table(number)["average"].reindex(rivals).max())
    return min(gaps) > above, words.format(_signed(gaps))


def _gaps(pairs, columns=(*GLUE, *NER)) -> list[pd.Series]:
    """One row minus the other of each pair, by column; those where one has N/A are left out."""
    rows = _tables()[[*columns]]
    return [(rows.loc[of] - rows.loc[minus]).dropna() for of, minus in pairs]


def paired(pairs, words, above=-math.inf, below=math.inf, columns=(*GLUE, *NER)):
    """The mean of the columns of one row minus the other, for each pair."""
    gaps = _gaps(pairs, columns)
    means = [gap.mean() for gap in gaps]
    every = pd.concat(gaps)
    shown = words.format(
        means=_signed(means),
        gained=(every > 0).sum(),
        columns=len(every),
        but_rte=_signed(gap.drop("rte").mean() for gap in gaps if "rte" in gap),
    )
    return above < min(means) and max(means) < below, shown


def major_drop(major, minor, words):
    """Whether each of some pairs loses more than any of others."""
    others = [gap.mean() for gap in _gaps(minor)]
    return paired(major, words, below=min(others))


def acceptability():
    shares = _students(1)[GLUE] / table(1)[GLUE].loc["bert-base"]
    cola = shares["cola"]
    shown = f"least of BERT's score on CoLA: {cola.min():.0%} to {cola.max():.0%}"
    return (cola == shares.min(axis="columns")).all(), f"every student keeps {shown}"


def hidden_first():
    points = table(3)["average"]
    shown = f"{points['hidden']} without attention, {points['attention']} without hidden states"
    return points["attention"] < 2 * points["hidden"], shown
