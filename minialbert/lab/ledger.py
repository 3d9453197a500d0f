"""The ledger: the claims that matter (claims.yaml), the paper's and ours, and what became of each.

A verdict is one of VERDICTS and computed, from the paper's own numbers or from stored results; it
is never written by hand. claims.yaml says what each of them means.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import yaml
from scipy import stats

from . import paper, run


@cache
def _file() -> dict:
    return yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf8"))


VERDICTS = _file()["verdicts"]  # {name: what it means}


@dataclass(frozen=True)
class Effect:
    """A mean, the interval it is known to (infinite: not known), and the seeds behind it."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def half(self) -> float:
        """Half the interval: what stands after ±."""
        return (self.high - self.low) / 2


def measure_effect(of: dict, minus: dict | None = None) -> Effect:
    """The mean over tasks of a score, or of its difference to another's, and its 95 % interval.

    A seed's number is its mean over the tasks, of the differences where there are two sides; the
    interval is Student's t of these numbers, with one degree of freedom less than there are seeds.
    One seed has no interval.

    Args:
        of, minus: {task: {seed: score}} or {task: [scores]}, seeds in one order. Of the same tasks.
    """
    sides = [of] if minus is None else [of, minus]
    if any(isinstance(scores, list) for scores in of.values()):
        sides = [{task: dict(enumerate(side[task])) for task in side} for side in sides]
    shared = set.intersection(*(set(scores) for side in sides for scores in side.values()))
    numbers = []
    for seed in sorted(shared):
        means = [fmean(scores[seed] for scores in side.values()) for side in sides]
        numbers.append(means[0] - sum(means[1:]))
    value, seeds = fmean(numbers) if numbers else math.nan, len(numbers)
    half = math.inf
    if seeds > 1:
        half = stats.t.ppf(0.975, seeds - 1) * stdev(numbers) / math.sqrt(seeds)
    return Effect(value, value - half, value + half, seeds)


def judge(effect: Effect, low=0.0, high=math.inf) -> str:
    """Agrees if the whole interval is between low and high, disagrees if all of it is outside."""
    if low < effect.low and effect.high < high:
        return "agrees here"
    return "disagrees here" if effect.high <= low or high <= effect.low else "undecided"


def together(verdicts) -> str:
    """The verdict over tasks: all alike, or mixed where two are opposite, or undecided."""
    verdicts = set(verdicts)
    if {"agrees here", "disagrees here"} <= verdicts:
        return "mixed"
    return verdicts.pop() if len(verdicts) == 1 else "undecided"


@dataclass(frozen=True)
class Claim:
    """What the paper, or a chapter, says, and what decides it: see claims.yaml for the fields."""

    id: str
    quote: str
    place: str
    kind: str
    stated: str
    check: str = ""
    arguments: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    columns: list = field(default_factory=lambda: [*paper.GLUE, *paper.NER])
    notebook: str = ""
    a: dict = field(default_factory=dict)
    b: dict | None = None
    metric: str = "score"
    tasks: list = field(default_factory=list)
    interval: list = field(default_factory=list)
    expects: str = ""
    worth: float = 0.0
    around: float = 0.0
    amended: list = field(default_factory=list)
    command: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """What lies between them agrees, what lies outside disagrees."""
        low, high = self.around - self.worth, self.around + self.worth
        bounds = {"more": (high, math.inf), "not less": (low, math.inf)}
        return (bounds | {"less": (-math.inf, low), "same": (low, high)})[self.expects]

    @property
    def is_beyond(self) -> bool:
        """Whether it goes beyond the paper, and is in our words."""
        return self.place.startswith("Beyond the paper")

    @property
    def sides(self) -> list[dict]:
        """The records to compare."""
        return [side for side in (self.a, self.b) if side]

    @property
    def contrast(self) -> str:
        """What is compared, and what would agree, in words."""
        if self.check:
            return f"{self.check}, as printed"
        shared = {name: v for name, v in self.a.items() if self.b and self.b.get(name) == v}
        words = [_in_words(side, leave_out=shared) for side in self.sides]
        both = _in_words(shared)
        low, high = self.bounds
        return (
            f"{self.metric} of {' minus '.join(words) or 'pairs of rows'}"
            + f" (both: {both})" * bool(both)
            + f", above {self.show(low)}" * math.isfinite(low)
            + f", below {self.show(high)}" * math.isfinite(high)
        )

    def show(self, value) -> str:
        """A value of its metric, for a reader: of scores in points."""
        if self.metric != "score":
            return f"{value:.3g}"
        return f"{round(100 * value, 1) + 0.0:+.1f}"  # no -0.0

    def cells(self) -> set:
        """The differences it counts, each (where, the two sides in either order, metric, task).

        No number counts twice: two claims must not share a cell.
        """
        if self.rows:
            pairs = [frozenset(pair) for pair in self.rows]
            return {("tables", pair, self.metric, task) for pair in pairs for task in self.columns}
        pair = frozenset(str(sorted(side.items())) for side in self.sides)
        return {(self.notebook, pair, self.metric, task) for task in self.tasks or ["all"]}


def _in_words(side, leave_out=()) -> str:
    """The values a side of a claim wants; a number with the name of its field."""
    told = {name: v for name, v in side.items() if v != "*" and name not in leave_out}
    return " ".join(v if isinstance(v, str) else f"{name} {v}" for name, v in told.items())


def claims() -> list[Claim]:
    """Every claim of claims.yaml, in its order."""
    return [Claim(**fields) for fields in _file()["claims"]]


def _source(result) -> str:
    """The notebook; "paper/" before it for a row of Tables 1 and 2 as a system, or as a teacher."""
    rows = pd.concat([paper.table(1), paper.table(2)])
    parameters = result["parameters"].get("recipe") or result["parameters"]
    systems = {record.get("system") or "" for record in result["records"]}
    whole = any(name in rows.index or name.startswith("published-") for name in systems)
    whole = whole or parameters.get("teacher") in {*rows["hub"].dropna()}
    return ("paper/" if whole else "") + result["notebook"]


def load_results(*folders) -> list[dict]:
    """The records of the finished runs in folders (`run.load`), without their empty fields.

    What a later folder has of a source stands for all that earlier ones have of it:
    load_results("figures/data", "runs") prefers one's own runs. Each record says its `source` (as
    claims name it), its `run`, the whole result, and its `weights`: the hash of the model that its
    system was read from, None where that is not known, "" where the run itself made the model.

    Raises:
        RunError: for a file that is no result, and where one folder has two models of one name.
    """
    found = {}
    for folder in folders:
        here, models = defaultdict(list), {}
        for result in run.load(folder):
            source, inputs = _source(result), result.get("inputs", {})
            for record in result["records"]:
                weights = inputs.get(record["system"]) if "system" in record else ""
                if weights:
                    name = source if source.startswith("paper/") else "", record["system"]
                    known, file = models.setdefault(name, (weights, result["file"]))
                    if known != weights:
                        both = f"{file} ({known}) and {result['file']} ({weights})"
                        raise run.RunError(f"two models are called {name[1]!r}: {both}")
                kept = {name: value for name, value in record.items() if value is not None}
                here[source].append(kept | {"source": source, "run": result, "weights": weights})
        found |= here
    return [record for records in found.values() for record in records]


def _fits(record, wanted) -> bool:
    has, wanted = _file()["defaults"] | record, _file()["defaults"] | wanted
    return all(fnmatchcase(str(has.get(name)), str(value)) for name, value in wanted.items())


def _unit(record) -> str:
    return record.get("task") or record.get("model") or ""


def scores_of(records, wanted: dict, metric="score") -> dict[str, dict]:
    """{task, or model: {seed: score}} of the records that have the wanted values.

    Of fields nothing is wanted of, they have the value in `defaults` of claims.yaml. "*" takes any
    value, "Mini*" what starts so. A record without a seed is none. Records whose weights are not
    known are never averaged with those of another file.
    """
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records:
        number = isinstance(record.get(metric), int | float)
        if number and "seed" in record and _fits(record, wanted):
            weights = record.get("weights", "")
            model = (True, weights) if weights is not None else (False, record["run"]["file"])
            found[_unit(record)][model][record["seed"]].append(record[metric])
    return {
        unit: {seed: fmean(scores) for seed, scores in models[max(models)].items()}
        for unit, models in found.items()  # known weights come before unknown ones
    }


@dataclass(frozen=True)
class Entry:
    """A claim and what became of it; `pandas.DataFrame(ledger(results))` is a table of them."""

    id: str
    place: str
    quote: str
    contrast: str  # and what would agree
    verdict: str
    effect: str = ""
    seeds: str = ""
    budget: str = ""
    evidence: str = ""  # "computed", or the files
    unknown: bool = False  # whether weights of a model behind it are not known
    command: str = ""  # what would decide it


def effects_of(claim: Claim, records) -> dict[str, Effect]:
    """{task, or model: the effect that a measured claim asks for}, where there are results."""
    if claim.interval:
        return {
            _unit(one): Effect(one[claim.metric], *(one[edge] for edge in claim.interval), 0)
            for one in records
            if claim.metric in one and _fits(one, claim.a)
        }
    sides = [scores_of(records, side, claim.metric) for side in claim.sides]
    tasks = [task for task in claim.tasks or sides[0] if all(task in side for side in sides)]
    return {task: measure_effect(*({task: side[task]} for side in sides)) for task in tasks}


def _measured(claim, results) -> dict:
    """The fields of an entry that results decide."""
    records = [record for record in results if record["source"] == claim.notebook]
    command = claim.command or _file()["commands"][claim.notebook]
    by_steps = defaultdict(list)  # students trained for other numbers of steps are not compared
    for record in records:
        by_steps[record["run"]["parameters"].get("steps") or 0].append(record)
    effects = {}
    for steps in sorted(by_steps, reverse=True):  # the longest that has both sides
        records = by_steps[steps]
        effects = effects_of(claim, records)
        if effects:
            break
    if not effects:
        return {"verdict": "not run", "command": command}
    known = [effect for effect in effects.values() if math.isfinite(effect.half)]
    verdict = together(judge(effect, *claim.bounds) for effect in known)
    behind = [
        record
        for record in records
        if _unit(record) in effects and claim.metric in record
        if any(_fits(record, side) for side in claim.sides)
    ]
    runs = {record["run"]["file"]: record["run"] for record in behind}
    minutes = sum(one["seconds"] or 0 for one in runs.values()) / 60
    return {
        "verdict": verdict,
        "effect": "; ".join(f"{task} {_shown(claim, effects[task])}" for task in effects),
        "seeds": ", ".join(str(effect.seeds) for effect in effects.values() if effect.seeds),
        "budget": f"at least {minutes:.0f} minutes",  # older records say a resumed run's last leg
        "evidence": ", ".join(sorted(runs)),
        "unknown": any(record.get("weights", "") is None for record in behind),
        "command": command if verdict == "undecided" else "",
    }


def _shown(claim, effect) -> str:
    half = claim.show(effect.half).lstrip("+")
    return claim.show(effect.value) + (f" ± {half}" if math.isfinite(effect.half) else ", one seed")


def _computed(claim) -> dict:
    """The fields of an entry that the paper's own numbers decide."""
    if claim.check:
        right, shown = getattr(paper, claim.check)(**claim.arguments)
        verdict = claim.kind if right else "slip"
    else:
        low, high = claim.bounds
        gaps = [paper.gap(*pair, claim.columns) for pair in claim.rows]
        inside = sum(low < gap < high for gap in gaps)
        verdict = claim.kind if inside == len(gaps) else "mixed" if inside else "slip"
        shown = ", ".join(f"{gap:+.2f}" for gap in gaps)
    return {"verdict": verdict, "effect": shown, "evidence": "computed"}


def decide(claim: Claim, results=()) -> Entry:
    """What the records of `load_results` say of a claim."""
    found = _measured(claim, results) if claim.kind == "measured" else _computed(claim)
    return Entry(claim.id, claim.place, claim.quote, claim.contrast, **found)


def ledger(results=()) -> list[Entry]:
    """Every claim with its verdict, from the records of `load_results` alone."""
    return [decide(claim, results) for claim in claims()]
