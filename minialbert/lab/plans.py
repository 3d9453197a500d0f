"""Plans: YAML files that say which runs there are; the Snakefile makes them.

A plan lies below notebooks/params and has a line `notebook:`. A file without it holds parameters
of one notebook, for papermill's option -f.

    notebook: 12_ablations              # of notebooks/
    parameters: {steps: 300}            # of every run; or a parameter file beside the plan
    grid: {seed: [0, 1, 2]}             # every combination; {task: {cola: {epochs: 5}}}: a value
                                        # of task, and the further parameters it brings
    runs:                               # each once for every combination; keys as above, and a name
      - {name: undistilled, parameters: {steps: 0}, gpu_hours: 0.1}   # hours: else estimated
      - grid: {alignment: [both, hidden]}

As params/lab/trial.yaml its runs are `lab/trial/undistilled,seed=0`,
`lab/trial/alignment=both,seed=0` and so on; each lies in the folder of that name below runs/.
"""

import difflib
import graphlib
import itertools
import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

import pandas as pd

from . import costs
from .parameters import ParameterError, check, notebook_parameters, read_yaml
from .run import PLACES, RECORD, plain, read


class PlanError(ValueError):
    """A plan that cannot be run as it is; the message says what to change."""


@dataclass
class Common:
    """What a plan says of all its runs, or of some."""

    notebook: str | None = None
    parameters: dict | str = field(default_factory=dict)
    grid: dict[str, list | dict[str, dict]] = field(default_factory=dict)
    gpu_hours: float | None = None


@dataclass
class Group(Common):
    """An entry of a plan's `runs`: one run for every combination of the grid."""

    name: str | int | float | None = None


@dataclass
class Plan(Common):
    """The whole file."""

    runs: list[dict] = field(default_factory=lambda: [{}])


@dataclass
class PlannedRun:
    """One run, its parameters checked."""

    name: str  # paper/table1/minialbert-128,task=mnli
    row: str  # the same without what the grid varies: paper/table1/minialbert-128
    plan: str  # paper/table1
    notebook: Path
    given: dict  # what the plan says
    parameters: dict  # that, and the notebook's defaults
    gpu_hours: float | None  # None: estimated by `costs.gpu_hours`
    folder: Path
    needs: list[str] = field(default_factory=list)  # names of the runs whose folders it reads

    def is_done(self) -> bool:
        """Whether its record says so.

        Raises:
            PlanError: where the folder holds a run with other parameters.
        """
        if not (self.folder / RECORD).exists():
            return False
        record = read(self.folder / RECORD)
        changed = [
            f"{name} was {before!r}, is now {self.parameters[name]!r}"
            for name, before in record["parameters"].items()
            if name in self.parameters and before != self.parameters[name]
        ]
        if changed:
            what = f"{self.folder} holds a run in which {', '.join(changed)}"
            raise PlanError(f"{what}: set the plan back, rename the run, or delete that folder.")
        return record["status"] == "done"


def read_plans(root=".") -> dict[str, PlannedRun]:
    """{name: run} of all plans below root/notebooks/params, every parameter of every run checked.

    Raises:
        PlanError: an unknown key, no such notebook, two runs of one name, a circle of needs.
        ParameterError: all at once: each unknown, mistyped or missing parameter, and the runs it
            concerns.
    """
    root, runs, wrong, known = Path(root), {}, defaultdict(list), {}
    for file in sorted((root / "notebooks/params").rglob("*.yaml")):
        if "notebook" not in read_yaml(file):
            continue
        for run in _runs_of(file, root):
            _add(run, runs)
            known[run.notebook] = known.get(run.notebook) or notebook_parameters(run.notebook)
            try:
                values = plain(check(run.given, known[run.notebook]))
            except ParameterError as error:
                wrong[str(error)].append(run.name)
                continue
            run.parameters = {k: v for k, v in values.items() if k not in PLACES}
    if wrong:
        concerned = {said: shorten(", ".join(names), 250) for said, names in wrong.items()}
        raise ParameterError("\n".join(f"{names}:\n{said}" for said, names in concerned.items()))
    _find_needs(runs, root)
    return runs


def targets(runs: dict[str, PlannedRun]) -> dict[str, list[PlannedRun]]:
    """What can be asked for, and the runs it means: each plan, each row of it, each run."""
    found = defaultdict(list)
    for run in runs.values():
        for target in dict.fromkeys([run.plan, run.row, run.name]):
            found[target].append(run)
    return dict(found)


def to_make(wanted: list[PlannedRun], runs: dict[str, PlannedRun]) -> list[PlannedRun]:
    """Of wanted runs and all they need, those that are not done."""
    found, waiting = {}, list(wanted)
    while waiting:
        run = waiting.pop()
        if run.name not in found and not run.is_done():
            found[run.name] = run
            waiting += [runs[name] for name in run.needs]
    return list(found.values())


def cost(todo, runs: dict[str, PlannedRun], tflops: float) -> str:
    """In words, what runs would cost on GPUs of that speed."""
    hours = [costs.gpu_hours(run, runs, tflops) for run in todo]
    unknown = hours.count(None)
    text = f"about {sum(filter(None, hours)):.2f} GPU hours at {tflops:g} TFLOP/s"
    return text + f", and {unknown} of unknown cost" * bool(unknown)


def hours(runs: dict[str, PlannedRun], tflops: float) -> pd.DataFrame:
    """GPU hours of every row of every plan: its runs, their hours, and those with all it needs; the
    line of a plan counts what its rows share once. Nothing counts as done."""

    def of(some):
        return round(sum(costs.gpu_hours(run, runs, tflops) or 0 for run in some), 2)

    table = {}
    for target, wanted in targets(runs).items():
        if target in {wanted[0].plan, wanted[0].row}:
            every = {run.name: run for run in wanted}
            for run in wanted:
                every |= {name: runs[name] for name in run.needs}
            table[target] = (len(wanted), of(wanted), of(every.values()))
    columns = ["runs", "GPU hours", "with what it needs"]
    return pd.DataFrame.from_dict(table, "index", columns=columns)


# -- how it is done --------------------------------------------------------------------------------


def _runs_of(file: Path, root: Path):
    """The runs of a plan file, their parameters not yet checked."""
    plan_name = file.relative_to(root / "notebooks/params").with_suffix("").as_posix()
    plan = _checked(read_yaml(file), Plan, file)
    for number, entry in enumerate(plan.runs, 1):
        where = f"{file}, run {number}"
        group = _checked(entry, Group, where)
        grid, own = plan.grid | group.grid, _parameters(group, file)
        common = _parameters(plan, file)
        if both := sorted((common | own).keys() & grid.keys()):
            raise PlanError(f"{where}: '{both[0]}' is a parameter and in the grid: leave one.")
        notebook = _find_notebook(group.notebook or plan.notebook, where, root)
        for values in itertools.product(*grid.values()):
            varied = dict(zip(grid, values, strict=True))
            brought = {}
            for key, value in varied.items():
                brought |= grid[key][value] if isinstance(grid[key], dict) else {}
            named = [str(group.name)] if group.name is not None else []
            words = varied if named else own | varied
            named += [f"{key}={_word(words[key])}" for key in sorted(words)]
            name = ",".join(named) or notebook.stem
            yield PlannedRun(
                name=f"{plan_name}/{name}",
                row=f"{plan_name}/{name if group.name is None else group.name}",
                plan=plan_name,
                notebook=notebook,
                given=common | brought | own | varied,
                parameters={},
                gpu_hours=plan.gpu_hours if group.gpu_hours is None else group.gpu_hours,
                folder=root / "runs" / plan_name / name,
            )


def _checked(entry: dict, kind: type, where):
    try:
        return check(entry, kind)
    except ParameterError as error:
        raise PlanError(f"{where}:\n{str(error).replace('parameter', 'key')}") from None


def _parameters(common: Common, file: Path) -> dict:
    """Its parameters, or those of the file it names; never those that say where a run lies."""
    given = common.parameters
    if isinstance(given, str):
        given = read_yaml(file.parent / given)
    return {name: value for name, value in given.items() if name not in PLACES}


def _find_notebook(name, where, root: Path) -> Path:
    course = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    if name not in course:
        near = difflib.get_close_matches(str(name), course, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(course)}."
        raise PlanError(f"{where}: no notebook '{name}'; {hint}")
    return course[name]


def _word(value) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, list):
        return "-".join(map(_word, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:40]


def _add(run: PlannedRun, runs: dict):
    name = run.name.removeprefix(f"{run.plan}/")
    if not re.fullmatch(r"[\w=+][\w.,=+-]{0,199}", name):
        allowed = "at most 200 letters, digits and . , = + - _"
        raise PlanError(f"plan {run.plan}: '{name}' cannot name a folder: name it with {allowed}")
    if run.name.casefold() in map(str.casefold, runs):  # not every disk tells A from a
        raise PlanError(f"plan {run.plan}: two runs are called '{name}': give one another name.")
    runs[run.name] = run


def _find_needs(runs: dict, root: Path):
    """A run needs another if any text among its parameters points into the other's folder; with
    "{seed}" in it, one for each of its seeds."""
    by_folder = {os.path.abspath(run.folder): run.name for run in runs.values()}
    for run in runs.values():
        needs, seeds = set(), run.parameters.get("seeds", [0])
        for text, seed in itertools.product(_texts(run.given), seeds):
            path = Path(os.path.abspath(root / "notebooks" / text.replace("{seed}", str(seed))))
            needs |= {by_folder.get(str(folder)) for folder in [path, *path.parents]}
        run.needs = sorted(needs - {None})
    try:
        graphlib.TopologicalSorter({run.name: run.needs for run in runs.values()}).prepare()
    except graphlib.CycleError as error:
        raise PlanError(f"runs need each other: {' <- '.join(error.args[1])}") from None


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


if __name__ == "__main__":  # python -m minialbert.lab.plans: GPU hours on an A100, guessed
    print(hours(read_plans(), tflops=50).to_string())
