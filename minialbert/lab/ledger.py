"""The paper's tables and claims as data, and the ledger that says of each what came out.

A verdict is computed, from the paper's own numbers or from stored results, and never written by hand:
"exact": follows without training, by counting or from the paper's numbers; "slip": so decided, and not as it
says (a verdict of its own: no run disagrees); "agrees here", "disagrees here": measured at this size, value
and spread wholly inside, or outside, what the claim states beforehand; "needs a run": no result, or too few
seeds to tell.

A result is a JSON file {"runs": [record, ...], "parameters": {...}, "manifest": {...}} in a folder such as
figures/data, or a manifest.json of `lab.Run` below one such as runs. Records are flat, scores are fractions:

| source | fields of a record, besides seed |
|---|---|
| lab | system; similarity; attention_row (`make run` nests them: metrics.<what>.<system>) |
| glue, ner | task; system: teacher, student, same start, random; score; ner: protocol: word, published |
| adapter_tuning | task; tuning: full, adapter; adapters: pre-trained, added, none; learning_rate; score |
| | or step_ratio: an adapter step's time to a full one's |
| ablations | task; variant: a key of TABLE_3 or TABLE_4, or both; reduction: published, row; score |
| efficiency | model; batch; length; to DistilBERT: latency_ratio, memory_ratio, working_ratio |
| attention | system; best: Jensen-Shannon divergence of the head closest to its teacher's, nats |
| paper/glue, paper/ner | task; row: a key of TABLE_1 or TABLE_2, or the run's name begins with it; score |
| paper/ablations | as ablations |

A field left out has its value in DEFAULTS; records of a grid that selection did not pick say "chosen": false.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from . import lab

# ---- the tables, columns as printed: QQP and MRPC are F1, CoLA Matthews; NER entity F1

GLUE = ("mnli_matched", "mnli_mismatched", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
NER = ("ncbi_disease", "bc5cdr_disease", "bc5cdr_chem", "bc2gm")


@dataclass(frozen=True)
class Row:
    """A row of Table 1 or 2; scores by column in percent, None for N/A."""

    table: int
    number: int  # from 1
    key: str  # for files and commands, as minialbert-128
    name: str  # for a reader
    parameters: float  # millions, as printed; those trained, with adapter tuning
    scores: dict[str, float | None]
    average: float  # as printed
    hub: str | None = None  # the checkpoint, where one is known
    iterations: int | None = None  # of one shared block; None: each layer has its own
    rank: int | None = None  # of the embeddings; 768: not factorised
    adapters: str = "none"  # or "pre-trained", "added" at fine-tuning
    tuning: str = "full"  # or "adapter"


_STUDENTS = [  # rank, adapters, tuning, millions: rows 8-17 of both tables
    (768, "none", "full", 31),
    (312, "none", "full", 17),
    (768, "pre-trained", "full", 32),
    (312, "pre-trained", "full", 18),
    (128, "pre-trained", "full", 12),
    (768, "added", "adapter", 0.9),
    (312, "added", "adapter", 0.9),
    (768, "pre-trained", "adapter", 0.9),
    (312, "pre-trained", "adapter", 0.9),
    (128, "pre-trained", "adapter", 0.9),
]

_TABLES = {
    1: """
BERT-base|110|google-bert/bert-base-uncased|84.78 84.78 87.91 91.56 92.77 57.19 89.20 91.46 74.72 83.81
DistilBERT|65|distilbert/distilbert-base-uncased|82.17 82.33 87.08 89.47 90.25 53.61 87.20 88.66 66.42 80.79
MobileBERT|25|google/mobilebert-uncased|84.03 83.84 87.41 91.17 91.16 51.55 88.12 90.59 66.78 81.62
TinyBERT|15|huawei-noah/TinyBERT_General_4L_312D|80.22 80.65 84.44 85.31 88.87 17.53 87.77 89.41 66.06 75.58
DistilBERT-base|65|| 82.08 82.27 86.01 86.91 91.28 50.33 83.92 88.06 59.56 78.93
ALBERT-6|11|| 76.35 77.01 84.73 84.51 86.12 29.54 82.76 86.39 59.56 74.10
ALBERT-12|11|| 78.93 80.03 85.45 88.12 86.92 41.73 86.21 90.65 63.17 77.91
80.71 81.80 86.25 88.13 89.79 43.71 86.93 89.00 61.37 78.63
80.55 81.29 86.46 87.46 89.56 45.82 85.51 89.22 62.09 78.66
81.04 82.05 86.48 88.79 89.79 46.33 86.92 88.46 67.50 79.70
80.78 81.67 86.35 88.57 90.36 45.50 86.60 88.96 69.31 79.78
80.64 81.33 86.29 88.08 89.67 47.93 86.62 89.77 68.95 79.92
74.61 75.72 79.72 80.70 85.20 N/A 83.90 81.72 52.70 68.25
74.48 75.70 79.76 82.39 83.48 N/A 80.94 81.22 54.15 68.01
79.48 80.06 85.29 87.84 90.02 42.26 86.33 87.74 67.14 78.46
79.13 80.16 85.27 86.10 89.90 45.25 85.34 87.91 65.34 78.26
78.05 79.66 84.94 87.40 90.36 44.72 84.62 89.08 66.78 78.40
""",
    2: """
DistilBioBERT|65|nlpie/distil-biobert|87.93 85.42 94.53 86.60 88.62
CompactBioBERT|65|nlpie/compact-biobert|88.67 85.38 94.31 86.71 88.76
TinyBioBERT|15|nlpie/tiny-biobert|85.22 81.28 92.20 82.52 85.30
BioMobileBERT|25|nlpie/bio-mobilebert|87.21 84.62 94.23 85.26 87.83
BioBERT|110|dmis-lab/biobert-v1.1|88.62 86.67 94.73 87.62 89.41
BioALBERT-6|11|| 86.07 82.00 93.19 84.51 86.44
BioALBERT-12|11|| 86.07 81.94 93.11 84.33 86.36
87.44 84.40 94.18 86.06 88.02
87.94 84.45 94.03 86.03 88.11
88.02 84.98 94.49 86.10 88.39
88.03 84.75 94.23 86.14 88.28
87.16 84.58 94.20 86.00 87.98
85.61 82.31 92.80 84.89 86.40
85.98 81.72 91.99 84.65 86.08
87.80 84.64 94.20 86.02 88.16
87.61 84.55 94.12 85.60 87.97
87.71 84.48 94.22 85.87 88.07
""",
}


def _student(table, rank, adapters, tuning, size) -> dict:
    bio, hub = (("", "nlpie/miniALBERT-128"), ("Bio", "nlpie/bio-miniALBERT-128"))[table - 1]
    alone = tuning == "adapter" and adapters == "pre-trained"
    suffix, words = {
        "none": ("-plain", "no adapters"),
        "added": ("-adapters-added", "adapters added"),
        "pre-trained": ("-adapter-tuning" * alone, "adapters"),
    }[adapters]
    return dict(
        key=f"{bio.lower()}minialbert-{rank}{suffix}",
        parameters=size,
        rank=rank,
        adapters=adapters,
        name=f"{bio}MiniALBERT, rank {rank}, {words}" + ", adapter tuning" * (tuning == "adapter"),
        tuning=tuning,
        iterations=6,
        hub=hub if (rank, adapters) == (128, "pre-trained") else None,
    )


def _table(table, columns) -> dict[str, Row]:
    rows, students = {}, iter(_STUDENTS)
    for number, line in enumerate(_TABLES[table].strip().splitlines(), 1):
        *about, scores = line.split("|")
        *scores, mean = (None if word == "N/A" else float(word) for word in scores.split())
        if about:
            name, size, hub = about
            row = dict(key=name.lower(), name=name, parameters=float(size), hub=hub or None)
            if "ALBERT-" in name:
                row |= dict(iterations=int(name.split("-")[1]), rank=128)
        else:
            row = _student(table, *next(students))
        scores = dict(zip(columns, scores, strict=True))
        rows[row["key"]] = Row(table, number, scores=scores, average=mean, **row)
    return rows


TABLE_1, TABLE_2 = _table(1, GLUE), _table(2, NER)
TABLE_3 = {"hidden": -0.5, "attention": -3.27, "none": -5.27}  # GLUE points; against what, not said
TABLE_4 = {
    "full-rank": 76.01,
    "full-rank + loss": 75.24,
    "factorised": 76.31,
    "factorised + loss": 76.14,
}

_TRAINING = {"scheduler": "linear", "optimiser": "AdamW"}
_PRETRAINING = _TRAINING | {
    "learning_rate": 5e-4,
    "weight_decay": 1e-4,
    "batch": 192,
    "warmup_steps": 5000,
}
_TUNING = _TRAINING | {"learning_rate": None, "weight_decay": 0.01, "batch": None, "epochs": None}
HYPERPARAMETERS = {  # Tables 5-10; their numbers, lost, are the published code's; None: not known
    5: _PRETRAINING | {"epochs": 1},
    6: _PRETRAINING | {"steps": 100_000},  # general, biomedical students
    7: _TUNING,
    8: _TUNING,  # GLUE: full, adapter tuning
    9: _TUNING | {"batch": 16, "epochs": 5},
    10: _TUNING | {"batch": 16},
}  # NER: full, adapter tuning


# ---- what needs no training


def average(row: Row, missing="skip") -> float:
    """The mean of a row's columns in percent, cut to two decimals; N/A is left out, or "zero"."""
    cents = [round(100 * score) for score in row.scores.values() if score is not None]
    return sum(cents) // (len(row.scores) if missing == "zero" else len(cents)) / 100


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
    """Parameters of an encoder without a masked-LM head (sections 3.2-3.4); `layers`: blocks of their own."""
    embeddings = (vocabulary + 512 + types + 2) * rank  # words, positions, types, LayerNorm
    projection = (rank + 1) * hidden if rank != hidden else 0
    block = 4 * (hidden + 1) * hidden + (2 * hidden + 1) * inner + 5 * hidden
    adapter = (2 * hidden + 1) * (hidden // 16) + 3 * hidden
    head = (hidden + 1) * hidden if pooler else 0
    return (
        embeddings
        + projection
        + layers * block
        + (2 * iterations * adapter if adapters else 0)
        + head
    )


ADAPTERS = (
    parameters(adapters=True) - parameters()
)  # 912,960: what adapter tuning trains besides the head
BLOCK = parameters(layers=2) - parameters()  # 7,087,872


def operations(rank=128, adapters=True) -> int:
    """Multiply-adds of a token with the weights of a student of K = 6, d = 768, forward (section 3)."""
    return (
        6 * 12 * 768**2
        + (6 * 2 * 2 * 768 * 48 if adapters else 0)
        + (rank * 768 if rank < 768 else 0)
    )


@dataclass(frozen=True)
class Exact:
    """Decided without training: whether it is as the paper says, and what came out."""

    holds: bool
    effect: str
    expects = "a computation"

    def __call__(self, results) -> dict:
        return {
            "verdict": "exact" if self.holds else "slip",
            "effect": self.effect,
            "evidence": "computed",
        }


# ---- what is measured


@dataclass(frozen=True)
class Effect:
    """A mean over tasks, its standard error (infinite: nothing tells the spread) and the fewest seeds."""

    value: float
    error: float
    seeds: int


def measure_effect(of: dict, minus: dict | None = None, noise: float | None = None) -> Effect:
    """The mean over tasks of a score, or of its difference to another's, with the pooled standard error.

    Args:
        of, minus: {task: [a score a seed]}, of the same tasks.
        noise: a score's standard deviation, stated beforehand, for tasks where no side has two seeds. Without it they
            take the largest of the other tasks'.
    """
    values, spreads, shares, seeds = [], [], [], []
    for task in of:
        sides = [of[task]] + ([minus[task]] if minus else [])
        freedom = sum(len(side) - 1 for side in sides)
        spreads.append(
            sum((len(side) - 1) * variance(side) for side in sides if len(side) > 1) / freedom
            if freedom
            else None
        )
        shares.append(sum(1 / len(side) for side in sides))
        values.append(fmean(sides[0]) - (fmean(sides[1]) if minus else 0))
        seeds.append(min(map(len, sides)))
    known = [spread for spread in spreads if spread is not None]
    unknown = noise**2 if noise is not None else max(known, default=math.inf)
    squares = [
        (unknown if spread is None else spread) * share for spread, share in zip(spreads, shares)
    ]
    return Effect(fmean(values), math.sqrt(sum(squares)) / len(values), min(seeds))


def judge(effect: Effect, low=0.0, high=math.inf) -> str:
    """The verdict: agrees if the value ± twice its error lies in low..high, disagrees if outside it."""
    least, most = effect.value - 2 * effect.error, effect.value + 2 * effect.error
    if low < least and most < high:
        return "agrees here"
    return "disagrees here" if most <= low or high <= least else "needs a run"


DEFAULTS = {
    "tuning": "full",
    "adapters": "pre-trained",
    "reduction": "published",
    "protocol": "word",
    "chosen": True,
    "time": None,
}


def _fits(record, wanted) -> bool:
    """Whether the record has the wanted values: "*" takes any, "Mini*" what starts so."""
    for name, value in (DEFAULTS | wanted).items():
        has = record.get(name, DEFAULTS.get(name))
        starred = isinstance(value, str) and value.endswith("*")
        if not (str(has).startswith(value[:-1]) if starred else has == value):
            return False
    return True


def _unit(record) -> str:
    return record.get("task") or record.get("model") or ""


def scores_of(records, wanted, measure="score") -> dict:
    """{task, or model: [a mean a seed]} of the records that have the wanted values, and what DEFAULTS says of
    others; "*" takes any value, "Mini*" what starts so. Records without a seed count one by one."""
    found = defaultdict(lambda: defaultdict(list))
    for number, record in enumerate(records):
        if _fits(record, wanted) and isinstance(record.get(measure), (int, float)):
            found[_unit(record)][record.get("seed", ("record", number))].append(record[measure])
    return {task: [fmean(values) for values in seeds.values()] for task, seeds in found.items()}


@dataclass(frozen=True)
class Measured:
    """Decided by stored results: the mean over tasks of `measure`, `of` some records `minus` others.

    The agreement is stated here, before any run: in low..high, by twice the pooled standard error (`judge`).
    """

    source: str
    of: dict
    minus: dict | None = None
    low: float = 0.0
    high: float = math.inf
    measure: str = "score"
    noise: float | None = None  # see `measure_effect`
    tasks: tuple = ()  # all of which must be there; by default those that both sides have
    derive: Callable | None = (
        None  # instead of `of`: the records -> [{task: values}, another to subtract]
    )

    def _show(self, value) -> str:
        return f"{100 * value:.2f} points" if self.measure == "score" else f"{value:.3g}"

    @property
    def expects(self) -> str:
        """The agreement in words."""
        sides = [
            " ".join(word for word in side.values() if word != "*") or "all"
            for side in (self.of, self.minus)
            if side
        ]
        edges = [
            f"{word} {self._show(edge)}"
            for word, edge in (("above", self.low), ("below", self.high))
            if math.isfinite(edge)
        ]
        return self.measure + " of " * bool(sides) + " minus ".join(sides) + " " + ", ".join(edges)

    def _sides(self, records) -> list[dict]:
        sides = (
            self.derive(records)
            if self.derive
            else [
                scores_of(records, side, self.measure)
                for side in (self.of, self.minus)
                if side is not None
            ]
        )
        shared = set.intersection(*map(set, sides))
        tasks = self.tasks or sorted(shared)
        return (
            [{task: side[task] for task in tasks} for side in sides]
            if shared.issuperset(tasks)
            else [{}]
        )

    def __call__(self, results) -> dict:
        records = [record for record in results if record["source"] == self.source]
        of, *minus = self._sides(records)
        if not of:
            return {"verdict": "needs a run"}
        effect = measure_effect(of, *minus, noise=self.noise)
        verdict = judge(effect, self.low, self.high)
        spread, open_ = (
            (self._show(2 * effect.error), "undecided")
            if math.isfinite(effect.error)
            else ("unknown", "too few seeds")
        )
        shown = f"{self._show(effect.value)} ± {spread}" + f": {open_}" * (verdict == "needs a run")
        used = [record for record in records if self.derive or _unit(record) in of]
        return {
            "verdict": verdict,
            "effect": shown,
            "seeds": effect.seeds,
            "budget": "; ".join(sorted({record["budget"] for record in used} - {""})),
            "evidence": ", ".join(sorted({record["file"] for record in used})),
        }


@dataclass(frozen=True)
class Beyond:
    """Decided by no run of this project: `command` says by what."""

    command: str
    expects = ""

    def __call__(self, results) -> dict:
        return {"verdict": "needs a run", "command": self.command}


# ---- exact checks of Tables 1 and 2, Table 1 first; differences in points


def _gaps(*pairs) -> list[list[float]]:
    """Column by column, "768 312-plain": the first student minus the second, over the columns both have."""
    found = []
    for start, rows in (("minialbert-", TABLE_1), ("biominialbert-", TABLE_2)):
        for pair in pairs:
            of, minus = (rows[start + student].scores for student in pair.split())
            found.append(
                [of[task] - minus[task] for task in of if None not in (of[task], minus[task])]
            )
    return found


_MINOR = [
    fmean(gap) for gap in _gaps(*(f"{rank}-adapter-tuning {rank}" for rank in (768, 312, 128)))
]
_MAJOR = [
    fmean(gap) for gap in _gaps(*(f"{rank}-adapters-added {rank}-plain" for rank in (768, 312)))
]
_CAPACITY = _gaps("768 768-plain", "312 312-plain")
_FULL_TUNED = [
    [row for row in rows.values() if "minialbert" in row.key and row.tuning == "full"]
    for rows in (TABLE_1, TABLE_2)
]


def _signed(numbers) -> str:
    return ", ".join(f"{number:+.2f}" for number in numbers)


def _rivals(*keys, students=max) -> list[float]:
    """The best (or, by min, the least) student's average minus the best average of others, by table."""
    return [
        students(row.average for row in found)
        - max(rows[key].average for key in keys if key in rows)
        for found, rows in zip(_FULL_TUNED, (TABLE_1, TABLE_2))
    ]


def _same_level() -> Exact:
    shares = [
        max(row.average for row in found) / teacher.average
        for found, teacher in zip(_FULL_TUNED, (TABLE_1["bert-base"], TABLE_2["biobert"]))
    ]
    return Exact(min(shares) >= 0.95, "{:.1%} and {:.1%} of the teacher's average".format(*shares))


def _capacity() -> Exact:
    means, columns = [fmean(gap) for gap in _CAPACITY], sum(_CAPACITY, [])
    but_rte = [fmean(gap[:-1]) for gap in _CAPACITY[:2]]
    return Exact(
        min(means) > 0,
        f"{_signed(means)}; in {sum(gap > 0 for gap in columns)} of {len(columns)} "
        f"columns; GLUE but for RTE {_signed(but_rte)}",
    )


def _speed() -> Exact:
    forward, adapters = operations(), operations() - operations(adapters=False)
    ratio = (
        3 * forward / (2 * forward + adapters)
    )  # forward, and gradients of inputs and of trained weights
    return Exact(ratio < 1.5, f"by operations at most {ratio:.2f} times")


def _on_par() -> Exact:
    means = [fmean(gap) for gap in _gaps("312-plain 768-plain", "312 768", "128 768")]
    return Exact(min(means) > -0.5, f"{_signed(means)}; on par: at most 0.5 below")


def _acceptability() -> Exact:
    teacher = TABLE_1["bert-base"].scores
    shares = [{task: row.scores[task] / teacher[task] for task in GLUE} for row in _FULL_TUNED[0]]
    kept = [share["cola"] for share in shares]
    return Exact(
        all(share["cola"] == min(share.values()) for share in shares),
        f"every student keeps least of BERT's score on CoLA: {min(kept):.0%} to {max(kept):.0%}",
    )


def _size(row) -> Exact:
    vocabulary = {1: 30522, 2: 28996}[row.table]
    count = (
        ADAPTERS
        if row.tuning == "adapter"
        else parameters(row.rank, row.adapters != "none", vocabulary)
    )
    return Exact(round(count / 1e6, int(row.parameters < 1)) == row.parameters, f"{count:,}")


def _baseline_sizes(rows, vocabulary) -> Exact:
    shapes = {
        110: dict(layers=12, pooler=True),
        65: dict(layers=6, types=0),
        15: dict(rank=312, hidden=312, inner=1200, layers=4, pooler=True),
    }
    counts = [
        (row, parameters(vocabulary=vocabulary, **shapes[row.parameters]) / 1e6)
        for row in rows
        if row.parameters in shapes
    ]
    return Exact(
        all(abs(count - row.parameters) <= 1 for row, count in counts),
        ", ".join(f"{row.name} {count:.1f}M, printed {row.parameters:g}M" for row, count in counts),
    )


def _averages(rows) -> Exact:
    right = [average(row) == row.average for row in rows if None not in row.scores.values()]
    return Exact(all(right), f"{sum(right)} of {len(right)} rows without N/A; cut, not rounded")


# ---- what is derived from several records


def _best_rates(records, tuning, among=None) -> dict:
    """{task: log10 of the learning rate with the best mean score}, of tasks where two were tried, and `among` too."""
    grids = defaultdict(dict)
    for rate in {record["learning_rate"] for record in records if "learning_rate" in record}:
        tried = [record for record in records if record.get("learning_rate") == rate]
        for task, scores in scores_of(tried, {"tuning": tuning, "chosen": "*"}).items():
            grids[task][rate] = fmean(scores)
    return {
        task: math.log10(max(grid, key=grid.get))
        for task, grid in grids.items()
        if len(grid) > 1 and (among is None or among in grid)
    }


def _rates(records) -> list[dict]:
    rates = list(_best_rates(records, "adapter", among=5e-4).values())
    return [{"": rates}] if rates else [{}]


def _rate_gaps(records) -> list[dict]:
    adapter, full = _best_rates(records, "adapter"), _best_rates(records, "full")
    gaps = [adapter[task] - full[task] for task in adapter.keys() & full.keys()]
    return [{"": gaps}] if gaps else [{}]


def _best_for_hidden(records) -> list[dict]:
    hidden, both = (scores_of(records, {"variant": variant}) for variant in ("hidden", "both"))
    gains = {task: fmean(hidden[task]) - fmean(both[task]) for task in hidden.keys() & both.keys()}
    task = max(gains, key=gains.get, default=None)
    return [{task: hidden[task]}, {task: both[task]}] if gains else [{}]


def _cola_behind(records) -> list[dict]:
    student, teacher = scores_of(records, STUDENT), scores_of(records, TEACHER)
    kept = {
        task: [score / fmean(teacher[task]) for score in student[task]]
        for task in student.keys() & teacher.keys()
        if fmean(teacher[task]) > 0
    }
    others = [fmean(shares) for task, shares in kept.items() if task != "cola"]
    return (
        [{"cola": [min(others) - share for share in kept["cola"]]}]
        if others and "cola" in kept
        else [{}]
    )


# ---- the claims


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, in our words ("[?]": a number its text lost), and what decides it."""

    section: str
    name: str
    text: str
    check: Exact | Measured | Beyond
    only: str = ""  # what to add to the command of the source

    @property
    def id(self) -> str:
        """As in "table 1: minialbert-128 scores"."""
        return f"{self.section}: {self.name}"


_BATCH, _PARAMS, _STORE = (
    "python -m minialbert.batch",
    "notebooks/params",
    "-p store ../figures/data",
)
COMMANDS = {  # by source of results: what makes them, from the checkout's root
    "lab": "make run",
    "long": f"{_BATCH} run notebooks/07_distil.ipynb --to runs/long "
    f"--parameters {_PARAMS}/lab/long.yaml {_STORE}/long.json",
    "attention": f"{_BATCH} run notebooks/08_attention_maps.ipynb --to runs/attention "
    f"--parameters {_PARAMS}/lab/attention.yaml {_STORE}/attention.json",
    "efficiency": f"{_BATCH} run notebooks/13_efficiency.ipynb --to runs/efficiency "
    f"--parameters {_PARAMS}/lab/efficiency.yaml {_STORE}/efficiency.json",
    "ablations": f"{_BATCH} plan {_PARAMS}/lab/ablations.yaml && "
    f"{_BATCH} run notebooks/12_ablations.ipynb --to runs/12_ablations {_STORE}/ablations.json",
    **{
        name: f"{_BATCH} plan {_PARAMS}/lab/{name}.yaml"
        for name in ("glue", "ner", "adapter_tuning")
    },
    **{
        f"paper/{name}": f"{_BATCH} plan {_PARAMS}/paper/{name}.yaml --to runs/paper"
        for name in ("glue", "ner", "ablations")
    },
}

STUDENT, START = {"system": "student"}, {"system": "same start"}
TEACHER = {"system": "teacher", "adapters": "*"}
_ADAPTER, _NONE = {"tuning": "adapter"}, {"adapters": "none"}
_TIMING = 0.03  # the noise of one measured ratio
_COSTS_LITTLE = Exact(min(_MINOR) > -2, f"{_signed(_MINOR)}; little: at most 2")
_OVER_ALBERT = _rivals("albert-6", "albert-12", "bioalbert-6", "bioalbert-12", students=min)
_TO_COMPACT = _rivals(
    "distilbert",
    "mobilebert",
    "tinybert",
    "distilbert-base",
    "distilbiobert",
    "compactbiobert",
    "tinybiobert",
    "biomobilebert",
)
_BY_EMBEDDING_LOSS = [
    TABLE_4[one + " + loss"] - TABLE_4[one] for one in ("full-rank", "factorised")
]
_TUNED_ALONE = Measured("adapter_tuning", _ADAPTER, {"tuning": "full"}, low=-0.03)


def _ablated(of, minus, low=0.0, measure="score", **more):
    return Measured("ablations", {"variant": of}, {"variant": minus} | more, low, measure=measure)


_SAYS = {
    "abstract": [
        (
            "transfer",
            "a full model's knowledge is converted into a compact recursive student",
            Measured("lab", STUDENT, START, 0.05, measure="similarity", noise=0.01),
        ),
        (
            "viable, general",
            "students are viable on general tasks",
            Measured("glue", STUDENT, START),
        ),
        (
            "viable, biomedical",
            "students are viable on biomedical tasks",
            Measured("ner", STUDENT, START),
        ),
        (
            "available",
            "the pre-trained students can be had",
            Beyond(
                "minialbert.published.load_published('nlpie/miniALBERT-128'), with the Hub in reach"
            ),
        ),
    ],
    "contributions": [
        (
            "first",
            "the first to compress full models into recursive ones",
            Beyond("no run: a search of the literature"),
        ),
        ("adapters suffice", "tuning the pre-trained adapters alone is competitive", _COSTS_LITTLE),
        ("adapters suffice, here", "tuning them alone is competitive at this size", _TUNED_ALONE),
        (
            "sizes",
            "the students have [?]M to [?]M parameters; by Table 1 12M to 32M",
            Exact(
                [round(parameters(rank, True) / 1e6) for rank in (128, 768)] == [12, 32],
                f"{parameters(128, True):,} to {parameters(768, True):,}",
            ),
        ),
        (
            "same level",
            "students perform at the level of full models; ours: at least 95 %",
            _same_level(),
        ),
        (
            "same level, here",
            "they do at this size; the paper's best is 3.9 points below BERT",
            Measured("glue", STUDENT, TEACHER, -0.05),
        ),
        (
            "wide range",
            "a wide range of general and biomedical tasks",
            Exact(
                (len(GLUE), len(NER)) == (9, 4),
                "8 GLUE tasks in 9 columns, 4 NER corpora, no other kind",
            ),
        ),
    ],
    "method": [
        (
            "sharing",
            "sharing cuts the unique parameters drastically",
            Exact(
                BLOCK == 7_087_872, f"{BLOCK:,} in the block, {12 * BLOCK:,} in BERT-base's twelve"
            ),
        ),
        (
            "small adapters",
            "adapters add a small number of parameters",
            Exact(
                ADAPTERS < 0.1 * parameters(128),
                f"{ADAPTERS:,}, {ADAPTERS / parameters(128, True):.1%} of the student of rank 128",
            ),
        ),
        (
            "distinct features",
            "adapters let each iteration capture features of its own",
            _ablated("no adapters", "both", measure="iteration_similarity"),
        ),
    ],
    "discussion": [
        ("capacity", "with adapters better in virtually all studies", _capacity()),
        (
            "capacity, here",
            "with adapters better at this size",
            Measured("adapter_tuning", {"tuning": "full"}, _NONE),
        ),
        (
            "margin",
            "above their baseline, significantly (no spread is given)",
            Exact(
                min(_OVER_ALBERT) > 0,
                f"the least student against the best ALBERT: {_signed(_OVER_ALBERT)}",
            ),
        ),
        (
            "margin, measured",
            "above their baseline, in runs of this project",
            Measured(
                "paper/glue",
                {"row": "minialbert-768-plain", "adapters": "*"},
                {"row": "albert-12", "adapters": "*"},
                tasks=GLUE,
                noise=0.009,
            ),
        ),
        (
            "loss works",
            "layer-to-layer distillation makes powerful recursive students",
            Measured("glue", STUDENT, START, 0.02),
        ),
        (
            "maps",
            "attention maps mimic the teacher's: nats a row gained",
            Measured("lab", START, STUDENT, 0.2, measure="attention_row", noise=0.05),
        ),
        (
            "minor drop",
            "adapter tuning costs little where adapters were pre-trained",
            _COSTS_LITTLE,
        ),
        ("minor drop, here", "it costs little at this size", _TUNED_ALONE),
        (
            "major drop",
            "it costs much where adapters were not pre-trained",
            Exact(
                max(_MAJOR) < min(_MINOR),
                f"{_signed(_MAJOR)} over the columns both have; GLUE's averages as printed: -10.38, -10.65",
            ),
        ),
        (
            "major drop, here",
            "it costs much there at this size",
            Measured("adapter_tuning", _NONE, _ADAPTER | {"adapters": "added"}, 0.03),
        ),
        ("speed", "adapter tuning is faster, nearly [?] times", _speed()),
        (
            "speed, here",
            "its step takes less time than a full one, measured",
            Measured(
                "adapter_tuning", {"tuning": "*"}, None, -math.inf, 0.9, "step_ratio", _TIMING
            ),
        ),
        (
            "more epochs",
            "more epochs in the same time can raise its score",
            Measured("adapter_tuning", _ADAPTER | {"time": "equal"}, _ADAPTER),
        ),
        (
            "higher rate",
            "it needs a higher learning rate",
            Measured(
                "adapter_tuning",
                {},
                measure="log10 of the best rates' ratio, over tasks",
                derive=_rate_gaps,
            ),
        ),
        (
            "best rate",
            "its best learning rate is [?]; likely 5e-4",
            Measured(
                "adapter_tuning",
                {},
                None,
                -3.5,
                -3.1,
                "log10 of the best rate, over tasks",
                derive=_rates,
            ),
        ),
        (
            "factorisation saves",
            "factorised embeddings cut parameters drastically",
            Exact(
                2 * parameters(128) < parameters(),
                ", ".join(f"{parameters(rank):,} at rank {rank}" for rank in (768, 312, 128)),
            ),
        ),
        ("factorised on par", "factorised students are on par or better", _on_par()),
        (
            "factorised on par, here",
            "they are on par at this size",
            _ablated("factorised", "full-rank", -0.01),
        ),
    ],
    "alignment ablation": [
        ("needed", "without alignment scores drop significantly", _ablated("both", "none")),
        (
            "hidden first",
            "hidden states matter far more than attention maps",
            Exact(
                TABLE_3["attention"] < 2 * TABLE_3["hidden"],
                f"{TABLE_3['hidden']} without attention, {TABLE_3['attention']} without hidden states",
            ),
        ),
        ("hidden first, here", "they matter more at this size", _ablated("hidden", "attention")),
        (
            "hidden first, row",
            "ours: they still do where the attention loss is a true KL a row",
            _ablated("hidden", "attention", reduction="row"),
        ),
        (
            "some tasks",
            "hidden states alone improve some tasks",
            Measured(
                "ablations",
                {},
                measure="hidden minus both, where it helps most,",
                derive=_best_for_hidden,
            ),
        ),
        (
            "both best",
            "on average both together stay ahead of hidden states",
            _ablated("both", "hidden"),
        ),
    ],
    "embedding ablation": [
        (
            "printed",
            "an embedding loss lowers scores",
            Exact(max(_BY_EMBEDDING_LOSS) < 0, _signed(_BY_EMBEDDING_LOSS)),
        ),
        ("full rank", "it does at this size", _ablated("full-rank", "full-rank + loss")),
        (
            "factorised",
            "it does so with factorised embeddings",
            _ablated("factorised", "factorised + loss"),
        ),
        (
            "unlike full models",
            "fully parameterised students gain by it",
            Beyond("no run: neither the paper nor this project has such a student"),
        ),
    ],
    "conclusion": [
        (
            "at most",
            "no student has more than [?]M parameters; by Table 1 32M",
            Exact(parameters(768, True) < 32.5e6, f"{parameters(768, True):,}"),
        ),
        (
            "competitive",
            "competitive on general and biomedical tasks",
            Exact(
                min(_TO_COMPACT) > -2,
                f"best student against best compact baseline: {_signed(_TO_COMPACT)}; "
                "competitive: within 2",
            ),
        ),
    ],
    "limitations": [
        (
            "operations",
            "as complex as DistilBERT",
            Exact(
                operations() < 1.05 * operations(768, False),
                f"{operations() / operations(768, False):.3f} times the operations of six plain layers",
            ),
        ),
        (
            "latency",
            "its latency equals DistilBERT's",
            Measured(
                "efficiency", {"model": "MiniALBERT*"}, None, 0.9, 1.1, "latency_ratio", _TIMING
            ),
        ),
        (
            "memory",
            "its memory equals DistilBERT's",
            Measured(
                "efficiency", {"model": "MiniALBERT*"}, None, 0.9, 1.1, "memory_ratio", _TIMING
            ),
        ),
        (
            "memory, working",
            "ours: so does its working memory, weights left out",
            Measured(
                "efficiency", {"model": "MiniALBERT*"}, None, 0.9, 1.1, "working_ratio", _TIMING
            ),
        ),
        ("acceptability", "poor at semantic acceptability", _acceptability()),
        (
            "acceptability, here",
            "poorest there at this size",
            Measured(
                "glue",
                {},
                measure="least share of the teacher's score kept elsewhere minus CoLA's",
                derive=_cola_behind,
            ),
        ),
        (
            "questions",
            "poor at question answering",
            Beyond("no run: neither the paper nor this project has the task"),
        ),
    ],
    "appendix C": [
        (
            "some heads",
            "some heads mimic the teacher's perfectly",
            Measured("attention", STUDENT, None, -math.inf, 0.05, "best", noise=0.0),
        ),
        (
            "one layer",
            "the student has only one layer",
            Exact(
                parameters(iterations=1) == parameters(iterations=6),
                f"{BLOCK:,} parameters, whatever K",
            ),
        ),
        (
            "loss at work",
            "the mimicry shows the layer-to-layer loss at work",
            Measured("attention", START, STUDENT, measure="best", noise=0.0),
        ),
    ],
}


def _about_rows(section, rows, source, noise, **protocol):
    for row in rows:
        tasks, mean = (
            tuple(task for task in row.scores if row.scores[task] is not None),
            average(row) / 100,
        )
        check = Measured(
            source,
            {"row": row.key, "tuning": "*", "adapters": "*"} | protocol,
            None,
            mean - 0.01,
            mean + 0.01,
            noise=noise,
            tasks=tasks,
        )
        text = f"{row.name}: {row.average} on average; ours: within a point"
        yield Claim(section, f"{row.key} scores", text, check, f" --only '{row.key},*'")
    for row in {
        row.parameters: row for row in reversed(rows) if row.rank
    }.values():  # the first of each size
        yield Claim(section, f"{row.key} size", f"{row.parameters:g}M parameters", _size(row))
    yield Claim(
        section,
        "baseline sizes",
        "baselines' parameters, but MobileBERT's; ours: to a million",
        _baseline_sizes(rows, {"table 1": 30522, "table 2": 28996}[section]),
    )
    yield Claim(section, "averages", "the averages", _averages(rows))
    for row in rows:
        if None in row.scores.values():
            text = f"{average(row)} over the columns there are; with N/A as zero {average(row, 'zero')}"
            yield Claim(
                section,
                f"{row.key} average",
                f"{row.name}: {row.average}",
                Exact(row.average == average(row), text),
            )


def _about_ablations():
    for section, table, minus in (
        ("table 3", TABLE_3, {"variant": "both"}),
        ("table 4", TABLE_4, None),
    ):
        for variant, points in table.items():
            yield Claim(
                section,
                variant,
                f"{variant}: {points}; ours: within a point",
                Measured(
                    "paper/ablations",
                    {"variant": variant},
                    minus,
                    points / 100 - 0.01,
                    points / 100 + 0.01,
                    noise=0.009,
                    tasks=GLUE,
                ),
            )


CLAIMS = [
    *(Claim(section, *claim) for section, claims in _SAYS.items() for claim in claims),
    *_about_rows(
        "table 1", list(TABLE_1.values()), "paper/glue", 0.009
    ),  # noise: one seed of one task
    *_about_rows("table 2", list(TABLE_2.values()), "paper/ner", 0.004, protocol="published"),
    *_about_ablations(),
]


# ---- results and the ledger


class ResultError(ValueError):
    """A file that holds no result; the message names it and the fix."""


def _records(content) -> list[dict]:
    """A file's runs, or its metrics: a record with its parameters, or one a system if nested by system."""
    metrics = content.get("metrics") or {}
    if (runs := content.get("runs", metrics.get("runs"))) is not None:
        return runs
    nested = defaultdict(dict)
    for name, value in metrics.items() if "score" not in metrics else ():
        for system, inner in value.items() if isinstance(value, dict) else ():
            nested[system] |= {"system": system} | (
                inner if isinstance(inner, dict) else {name: inner}
            )
    return list(nested.values()) or [(content.get("parameters") or {}) | metrics]


def _budget(content) -> str:
    given = (content.get("parameters") or {}) | (content.get("manifest") or content)
    words = {"steps": "steps", "limit": "training examples", "epochs": "epochs"}
    parts = [
        f"{given[name]:,} {word}"
        for name, word in words.items()
        if isinstance(given.get(name), (int, float))
    ]
    if given.get("seconds"):
        parts.append(f"{given['seconds'] / 60:.1f} minutes")
    return content.get("budget") or ", ".join(parts)


def load_results(*folders) -> list[dict]:
    """The records of the JSON files in folders and of the manifests below them; unfinished runs are left out.

    x.json and x/manifest.json are source x, x/y/run/manifest.json is x/y. What a later folder has of a source
    stands for all that earlier ones have of it: load_results("figures/data", "runs") prefers one's own runs.

    Raises:
        ResultError: for a file that is no result.
    """
    found = {}
    for folder in map(Path, folders):
        here = defaultdict(list)
        for path in sorted({*folder.glob("*.json"), *folder.glob("**/manifest.json")}):
            parts, whole = path.relative_to(folder).parts[:-1], path.resolve()
            file = whole.relative_to(lab.ROOT) if whole.is_relative_to(lab.ROOT) else path
            keys = [key for key in (*TABLE_1, *TABLE_2) if parts and parts[-1].startswith(key)]
            try:
                content = json.loads(path.read_text(encoding="utf8"))
                if (content.get("manifest") or content).get("status", "done") != "done":
                    continue
                known = {"seed": content.get("seed"), "row": max(keys, key=len, default=None)}
                about = {
                    "source": "/".join(parts[:-1] or parts) or path.stem,
                    "file": file.as_posix(),
                    "budget": _budget(content),
                }
                here[about["source"]] += [
                    {
                        name: value
                        for name, value in (known | record | about).items()
                        if value is not None
                    }
                    for record in _records(content)
                ]
            except (ValueError, AttributeError, TypeError) as error:
                raise ResultError(
                    f"{path} is no result ({error}): it must be JSON with 'runs', a list of "
                    "flat records, or 'metrics'; make it again, or move it away"
                ) from None
        found |= here
    return [record for records in found.values() for record in records]


@dataclass(frozen=True)
class Entry:
    """A claim and what became of it; `pandas.DataFrame(ledger(results))` is a table of them."""

    id: str
    section: str
    claim: str
    expects: str  # the agreement, stated beforehand
    verdict: str
    effect: str = ""  # measured: ± two standard errors
    seeds: int | None = None  # the fewest of any task and side
    budget: str = ""
    evidence: str = ""  # "computed", or the files
    command: str = ""  # what would decide it, where a run is missing


def ledger(results=()) -> list[Entry]:
    """Every claim of the paper with its verdict, filled from the records of `load_results` alone."""
    entries = []
    for claim in CLAIMS:
        found = claim.check(results)
        if found["verdict"] == "needs a run":
            found = {
                "command": COMMANDS.get(getattr(claim.check, "source", None), "") + claim.only
            } | found
        entries.append(Entry(claim.id, claim.section, claim.text, claim.check.expects, **found))
    return entries
