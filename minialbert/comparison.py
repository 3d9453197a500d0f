"""Several systems tuned for one task by the same rules: a grid, a part kept apart, seeds."""

import difflib
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from sklearn.model_selection import ParameterGrid
from transformers import AutoConfig

from . import starting, tasks
from .finetuning import FinetuningError, TuningArguments, finetune, need_selection


@dataclass
class ComparisonArguments(TuningArguments):
    """Several systems tuned for one task (notebooks 09 to 11): what they share, and the grid."""

    model: str = ""  # each system says its own
    keep_model: bool = False
    data: str | None = None  # the task's folder or Hub id; None: its own source
    own: dict | None = None  # of task "own": text_columns, label_column, kind, labels, metrics
    student: str = "../runs/07_distil/student"  # the folder of any MiniALBERT
    teacher: str = "all-MiniLM-L6-v2"  # the one it was distilled from
    teacher_learning_rate: float = 5e-5
    teacher_epochs: float = 2.0
    systems: dict | None = None  # {name: {model: ..., further fields of TuningArguments}}
    limit: int | None = None  # training examples; None: all
    evaluation_limit: int | None = None  # examples that are scored; None: all
    keep_apart: float = 0.0  # share of the training set to choose by, where there is a grid
    learning_rates: list = field(default_factory=list)  # a grid, for systems that do not say theirs
    batch_sizes: list = field(default_factory=list)  # likewise
    epochs_tried: list = field(default_factory=list)  # likewise
    seeds: list = field(default_factory=lambda: [0])  # one tuning each


def four_systems(arguments: ComparisonArguments, student, folder) -> dict[str, dict]:
    """Teacher, student, and the student undistilled: started from the teacher, and at random.

    Args:
        student: the distilled one's folder. folder: where the one started from the teacher is kept,
            as it was before its first step of distillation.

    Returns the `systems` of `compare`.
    """
    student, folder = Path(student), Path(folder)
    if not folder.exists():
        teacher, tokenizer = starting.load_teacher(arguments.teacher)
        config = AutoConfig.from_pretrained(student)
        undistilled = starting.start_student(config, teacher, tokenizer, seed=arguments.seed)
        aside = folder.with_name(folder.name + ".part")
        for part in (undistilled, tokenizer):
            part.save_pretrained(aside)
        aside.rename(folder)
    teachers = {"tuning": "full", "learning_rate": arguments.teacher_learning_rate}
    teachers |= {"model": arguments.teacher, "epochs": arguments.teacher_epochs}
    return {
        "teacher": teachers,
        "student": {"model": str(student)},
        "same start": {"model": str(folder)},
        "random start": {"model": str(student), "start": "random"},
    }


def _simply(key, make):
    return make()


def tune(
    arguments, data, grid=None, *, seeds=(0,), system="", once=_simply, quiet=False, stages=None
) -> dict:
    """The best setting of a grid, once with each seed.

    Each setting is tried with the first seed and judged on the part kept apart of the training set:
    the evaluation parts are never looked at for choosing.

    Args:
        grid: {field of TuningArguments: values}; with fewer than two settings nothing is chosen.
        once: `once(key, make)` returns `make()`, or what that returned in an earlier run. The key
            names system, task, seed and setting. stages: for each training (which, of how many).

    Returns:
        runs (results of `finetune`, one a seed), tried (those of the grid, with part "selection").

    Raises:
        FinetuningError: for a grid without a part kept apart.
    """
    settings, parts = list(ParameterGrid(grid or {})), list(data.evaluation)
    if len(settings) > 1:
        need_selection(data, "a grid")
        parts.insert(0, "selection")

    def run(setting, seed):
        name = ",".join([*(f"{key}={value:g}" for key, value in setting.items()), f"seed-{seed}"])
        own = setting | {"seed": seed, "run_folder": str(Path(arguments.run_folder) / name)}
        key = {"system": system, "task": data.task.name, "seed": seed, "setting": setting}
        stage = next(stages) if stages else (1, 1)
        return once(key, lambda: finetune(replace(arguments, **own), data, parts, quiet, stage))

    if len(settings) == 1:
        return {"runs": [run(settings[0], seed) for seed in seeds], "tried": []}
    tried = [run(setting, seeds[0]) for setting in settings]
    scores = [one["metrics"]["selection"][data.task.metrics[0]] for one in tried]
    best = int(np.argmax(scores))
    others = [run(settings[best], seed) for seed in seeds[1:]]
    return {"runs": [tried[best], *others], "tried": tried}


def compare(
    arguments: ComparisonArguments, systems: dict, data: tasks.TaskData, once=_simply, quiet=False
) -> dict[str, dict]:
    """Several systems tuned for one task by the same rules, each in a folder of its own.

    Args:
        arguments: what they share, and the grid; what a system says itself is not varied for it.
        systems: {name: {"model": ..., further fields of TuningArguments}}. once: see `tune`.

    Returns:
        {name: result of `tune`}, in the order of systems.

    Raises:
        FinetuningError: before anything is trained, naming the system: an unknown field (with the
            nearest one), a mistyped or missing one.
    """
    a = arguments
    grid = {
        "learning_rate": a.learning_rates,
        "batch_size": a.batch_sizes,
        "epochs": a.epochs_tried,
    }
    planned = {name: _system(name, own, a, data.task.name) for name, own in systems.items()}
    if len({one.run_folder for one in planned.values()}) < len(planned):
        raise FinetuningError("two systems would share a folder: their names are too much alike.")
    grids = {
        name: {key: values for key, values in grid.items() if values and key not in own}
        for name, own in systems.items()
    }
    of = sum(len(ParameterGrid(one)) + len(a.seeds) - 1 for one in grids.values())
    how = {"seeds": a.seeds, "once": once, "quiet": quiet}
    how["stages"] = ((which, of) for which in range(1, of + 1))
    return {name: tune(one, data, grids[name], system=name, **how) for name, one in planned.items()}


def _system(name, own, arguments, task) -> TuningArguments:
    """One system of a comparison: what all share, and what it says itself."""
    shared = {one.name: getattr(arguments, one.name) for one in fields(TuningArguments)}
    for key in ("run_folder", "task", "seed", "model"):
        del shared[key]
    for key in own.keys() - {"model", *shared}:
        near = difflib.get_close_matches(key, shared, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(shared)}."
        raise FinetuningError(f"system '{name}': '{key}' is nothing a system can set; {hint}")
    folder = str(Path(arguments.run_folder) / re.sub(r"[^\w.+-]+", "-", name))
    given = {"run_folder": folder, "task": task, **shared, **own}
    try:
        return TypeAdapter(TuningArguments).validate_python(given)
    except ValidationError as error:
        raise FinetuningError(f"system '{name}': {error}") from None
