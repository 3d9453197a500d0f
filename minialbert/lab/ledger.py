"""The ledger: every claim of the paper (claims.yaml), and what came out.

A verdict is computed, from the paper's own numbers or from stored results, never written by hand:
"exact": it follows without training (`paper`); "slip": so decided, and not as it says (a verdict of
its own: no run disagrees); "agrees here", "disagrees here": measured at this size, value and spread
wholly inside, or outside, what the claim states beforehand; "needs a run": no result, or too few
seeds to tell.

claims.yaml says which fields of a result's records it reads.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from statistics import fmean, variance

import pandas as pd
import yaml

from . import paper, run

VERDICTS = ("exact", "agrees here", "slip", "disagrees here", "needs a run")


@dataclass(frozen=True)
class Effect:
    """A mean over tasks, its standard error (infinite: not known), the fewest seeds."""

    value: float
    error: float
    seeds: int


def measure_effect(of: dict, minus: dict | None = None, noise: float | None = None) -> Effect:
    """The mean over tasks of a score, or of its difference to another's, and its standard error.

    Args:
        of, minus: {task: [a score a seed]}, of the same tasks.
        noise: a score's standard deviation, stated beforehand, for tasks where no side has two
            seeds. Without it they take the largest of the other tasks'.
    """
    values, variances, shares, seeds = [], {}, {}, []
    for task, scores in of.items():
        sides = [scores] if minus is None else [scores, minus[task]]
        values.append(fmean(scores) - (0 if minus is None else fmean(minus[task])))
        seeds += map(len, sides)
        shares[task] = sum(1 / len(side) for side in sides)
        freedom = sum(len(side) - 1 for side in sides)
        if freedom:
            squares = sum((len(side) - 1) * variance(side) for side in sides if len(side) > 1)
            variances[task] = squares / freedom
    unknown = max(variances.values(), default=math.inf) if noise is None else noise**2
    total = sum(variances.get(task, unknown) * share for task, share in shares.items())
    return Effect(fmean(values), math.sqrt(total) / len(values), min(seeds))


def judge(effect: Effect, low=0.0, high=math.inf) -> str:
    """Agrees if the value ± twice its error is in low..high, disagrees if it is outside."""
    least, most = effect.value - 2 * effect.error, effect.value + 2 * effect.error
    if low < least and most < high:
        return "agrees here"
    return "disagrees here" if most <= low or high <= least else "needs a run"


# ---- scores in records


@cache
def _file() -> dict:
    return yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf8"))


def _fits(record, wanted) -> bool:
    defaults = _file()["defaults"]
    has, wanted = defaults | record, defaults | wanted
    return all(fnmatchcase(str(has.get(name)), str(value)) for name, value in wanted.items())


def _unit(record) -> str:
    return record.get("task") or record.get("model") or ""


def scores_of(records, wanted: dict, measure="score") -> dict[str, list[float]]:
    """{task, or model: [a mean a seed]} of the records that have the wanted values.

    Of fields nothing is wanted of, they have the value in `defaults` of claims.yaml. "*" takes any
    value, "Mini*" what starts so. Records without a seed count one by one.
    """
    found = defaultdict(lambda: defaultdict(list))
    for number, record in enumerate(records):
        if _fits(record, wanted) and isinstance(record.get(measure), int | float):
            seed = record.get("seed", f"record {number}")
            found[_unit(record)][seed].append(record[measure])
    return {unit: [fmean(scores) for scores in seeds.values()] for unit, seeds in found.items()}


# ---- what is derived from several records: [{task: scores}], or two such to subtract


def _best_rates(records, tuning, among=None) -> dict:
    """{task: log10 of its best learning rate}, where two were tried, and `among` if given."""
    grids = defaultdict(dict)
    for rate in {record["learning_rate"] for record in records if "learning_rate" in record}:
        tried = {"tuning": tuning, "learning_rate": rate, "chosen": "*"}
        for task, scores in scores_of(records, tried).items():
            grids[task][rate] = fmean(scores)
    grids = {task: grid for task, grid in grids.items() if len(grid) > 1}
    return {
        task: math.log10(max(grid, key=grid.get))
        for task, grid in grids.items()
        if among in (None, *grid)
    }


def best_rate(records):
    """The logarithm of adapter tuning's best learning rate, a task a value."""
    return [{"": [*_best_rates(records, "adapter", among=5e-4).values()]}]


def rate_gap(records):
    """By how much it is above full tuning's."""
    adapter, full = _best_rates(records, "adapter"), _best_rates(records, "full")
    return [{"": [adapter[task] - full[task] for task in adapter if task in full]}]


def best_for_hidden(records):
    """Hidden states alone and both losses, on the task where the former gains most."""
    hidden, both = (scores_of(records, {"variant": variant}) for variant in ("hidden", "both"))
    gains = {task: fmean(hidden[task]) - fmean(both[task]) for task in hidden if task in both}
    best = max(gains, key=gains.get, default=None)
    return [{best: hidden[best]}, {best: both[best]}] if gains else [{}]


def cola_behind(records):
    """The least share of the teacher's score that a student keeps elsewhere, minus CoLA's."""
    student = scores_of(records, {"system": "student"})
    teacher = scores_of(records, {"system": "teacher", "adapters": "*"})
    best = {task: fmean(scores) for task, scores in teacher.items()}
    kept = {
        task: [score / best[task] for score in scores]
        for task, scores in student.items()
        if best.get(task, 0) > 0
    }
    cola = kept.pop("cola", [])
    least = min(map(fmean, kept.values()), default=None)
    return [{"cola": [least - share for share in cola]}] if kept else [{}]


DERIVED = {make.__name__: make for make in (best_rate, rate_gap, best_for_hidden, cola_behind)}


# ---- claims


@dataclass(frozen=True)
class Claim:
    """What the paper says, in our words, and what decides it: see claims.yaml for the fields."""

    section: str
    name: str
    quote: str
    kind: str
    check: str = ""
    arguments: dict = field(default_factory=dict)
    source: str = ""
    where: dict = field(default_factory=dict)
    of: dict = field(default_factory=dict)
    minus: dict | None = None
    derive: str = ""
    measure: str = "score"
    low: float = -math.inf
    high: float = math.inf
    noise: float | None = None
    tasks: list = field(default_factory=list)
    command: str = ""

    @property
    def id(self) -> str:
        """As in "table 1: minialbert-128 scores"."""
        return f"{self.section}: {self.name}"

    @property
    def sides(self) -> list[dict]:
        """What records to compare; none, where a function derives the effect."""
        return [side for side in (self.of, self.minus) if side]

    @property
    def expects(self) -> str:
        """The agreement in words, stated beforehand."""
        if self.kind != "measured":
            return "a computation" if self.kind == "exact" else ""
        sides = [" ".join(v for v in side.values() if v != "*") or "all" for side in self.sides]
        words = self.measure + " of " * bool(sides) + " minus ".join(sides)
        edges = {"above": self.low, "below": self.high}
        finite = {word: edge for word, edge in edges.items() if math.isfinite(edge)}
        return f"{words} " + ", ".join(f"{word} {self.show(edge)}" for word, edge in finite.items())

    def show(self, value) -> str:
        """A value of its measure, for a reader."""
        return f"{100 * value:.2f} points" if self.measure == "score" else f"{value:.3g}"


def claims() -> list[Claim]:
    """Every claim of claims.yaml, in its order."""
    return [
        Claim(section, name, **fields)
        for section, its_claims in _file()["claims"].items()
        for name, fields in its_claims.items()
    ]


# ---- results and the ledger


def _source(result) -> str:
    """The notebook; "paper/" before it for a row of Tables 1 and 2 as a system, or as a teacher."""
    rows = pd.concat([paper.table(1), paper.table(2)])
    parameters = result["parameters"].get("recipe") or result["parameters"]
    systems = {record.get("system") for record in result["records"]}
    whole = systems & {*rows.index} or parameters.get("teacher") in {*rows["hub"].dropna()}
    return ("paper/" if whole else "") + result["notebook"]


def load_results(*folders) -> list[dict]:
    """The records of the finished runs in folders (`run.load`), without their empty fields.

    What a later folder has of a source stands for all that earlier ones have of it:
    load_results("figures/data", "runs") prefers one's own runs. Each record says its `source` (as
    claims name it) and its `run`, the whole result.

    Raises:
        RunError: for a file that is no result; the message names it.
    """
    found = {}
    for folder in folders:
        here = defaultdict(list)
        for result in run.load(folder):
            source = _source(result)
            for record in result["records"]:
                known = {name: value for name, value in record.items() if value is not None}
                here[source].append(known | {"source": source, "run": result})
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


def _sides(claim, records) -> list[dict]:
    """The scores to compare, of all of the claim's tasks; none where one is missing."""
    if claim.derive:
        sides = DERIVED[claim.derive](records)
    else:
        sides = [scores_of(records, side, claim.measure) for side in claim.sides]
    tasks = claim.tasks or sorted(set.intersection(*map(set, sides)))
    complete = tasks and all(side.get(task) for side in sides for task in tasks)
    return [{task: side[task] for task in tasks} for side in sides] if complete else []


def _runs_behind(claim, records, tasks) -> list[dict]:
    """The runs that a claim's scores come from."""
    found = {}
    for record in records:
        fits = _unit(record) in tasks and any(_fits(record, side) for side in claim.sides)
        if fits or (claim.derive and record.get("chosen", True)):
            found[record["run"]["file"]] = record["run"]
    return [found[file] for file in sorted(found)]


def _measured(claim, results) -> dict:
    """The fields of an entry that results decide."""
    records = [
        record
        for record in results
        if record["source"] == claim.source
        and all(record["run"]["parameters"].get(k) == value for k, value in claim.where.items())
    ]
    command = claim.command or _file()["commands"][claim.source].format(**claim.of)
    sides = _sides(claim, records)
    if not sides:
        return {"verdict": "needs a run", "command": command}
    effect = measure_effect(*sides, noise=claim.noise)
    verdict = judge(effect, claim.low, claim.high)
    runs = _runs_behind(claim, records, sides[0])
    known = math.isfinite(effect.error)
    shown = f"{claim.show(effect.value)} ± {claim.show(2 * effect.error) if known else 'unknown'}"
    if verdict == "needs a run":
        shown += ": undecided" if known else ": too few seeds"
    return {
        "verdict": verdict,
        "effect": shown,
        "seeds": effect.seeds,
        "budget": f"{sum(one['seconds'] or 0 for one in runs) / 60:.1f} minutes",
        "evidence": ", ".join(one["file"] for one in runs),
        "command": command if verdict == "needs a run" else "",
    }


def decide(claim: Claim, results=()) -> Entry:
    """What the records of `load_results` say of a claim."""
    if claim.kind == "exact":
        holds, effect = getattr(paper, claim.check)(**claim.arguments)
        found = {"verdict": "exact" if holds else "slip", "effect": effect, "evidence": "computed"}
    elif claim.kind == "beyond":
        found = {"verdict": "needs a run", "command": claim.command}
    else:
        found = _measured(claim, results)
    return Entry(claim.id, claim.section, claim.quote, claim.expects, **found)


def ledger(results=()) -> list[Entry]:
    """Every claim of the paper with its verdict, from the records of `load_results` alone."""
    return [decide(claim, results) for claim in claims()]
