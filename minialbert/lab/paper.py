"""The paper's tables as data (tables.csv), and what follows from them, or from counting, without a
run: differences between rows, averages, sizes. claims.yaml says which of them are claims.
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
) -> int:
    """Parameters of an encoder without pooler and masked-LM head (sections 3.2-3.4).

    `layers` are blocks of their own: a student has one, whatever its iterations.
    """
    embeddings = (vocabulary + 512 + 2 + 2) * rank  # words, positions, two types, LayerNorm
    projection = (rank + 1) * hidden if rank != hidden else 0
    block = 4 * (hidden + 1) * hidden + (2 * hidden + 1) * inner + 5 * hidden
    adapter = (2 * hidden + 1) * (hidden // 16) + 3 * hidden
    added = 2 * iterations * adapter if adapters else 0
    return embeddings + projection + layers * block + added


BLOCK = parameters(layers=2) - parameters()


def gap(one: str, other: str, columns=(*GLUE, *NER)) -> float:
    """The mean difference of two rows over the columns that both have, in points."""
    rows = _tables().loc[[one, other], [*columns]].dropna(axis="columns")
    return (rows.loc[one] - rows.loc[other]).mean()


def averages() -> tuple[bool, str]:
    """Whether every average is the mean of its row, cut to two decimals; and what is not."""
    rows = [row for number in (1, 2) for _, row in table(number).iterrows()]
    wrong = [row for row in rows if average(row) != row["average"]]
    shown = [f"{row['name']} {average(row)}, printed {row['average']}" for row in wrong]
    return not wrong, f"{len(rows) - len(wrong)} of {len(rows)} rows; " + "; ".join(shown)


def sizes(number: int) -> tuple[bool, str]:
    """Whether a table's students, fully tuned, have the printed millions of parameters."""
    rows = table(number)
    rows = rows[rows["name"].str.contains("MiniALBERT") & (rows["tuning"] == "full")]
    right, shown = True, []
    for _, row in rows.iterrows():
        count = parameters(row["rank"], row["adapters"] != "none", VOCABULARY[number]) / 1e6
        right = right and round(count) == row["parameters"]
        shown.append(f"{count:.2f} M, printed {row['parameters']:g}")
    return right, "; ".join(shown)
