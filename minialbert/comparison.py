"""Several systems tuned for one task by the same rules: a grid, a part kept apart, seeds."""

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError
from sklearn.model_selection import ParameterGrid
from transformers import AutoConfig

from . import sources, starting, tasks
from .finetuning import FinetuningError, TuningArguments, finetune


@dataclass
class ComparisonArguments(TuningArguments):
    """Several systems tuned for one task (notebooks 09 to 11): what they share, and the grid."""

    model: str = ""  # each system says its own
    keep_model: bool = False
    data: str | None = None  # the task's folder or Hub id; None: its own source
    own: dict | None = None  # of task "own": text_columns, label_column, kind, labels, metrics
    student: str = "minialbert-lab"  # the shipped one, or the folder of any MiniALBERT
    teacher: str = "all-MiniLM-L6-v2"  # the one it was distilled from
    teacher_learning_rate: float = 5e-5  # where learning_rates gives all systems one grid: unused
    teacher_epochs: float = 2.0  # likewise, of epochs_tried
    systems: dict | None = None  # {name: {model: ..., further fields of TuningArguments}}
    limit: int | None = None  # training examples; None: all
    evaluation_limit: int | None = None  # examples that are scored; None: all
    task_distillation: bool = False  # also a student that learns from the tuned teacher
    protocol: Literal["held-out", "published"] = "held-out"  # what chooses; see `tasks.load_task`
    keep_apart: float = 0.0  # share of the training set to choose by, where there is a grid
    learning_rates: list = field(default_factory=list)  # a grid, for systems that do not say theirs
    batch_sizes: list = field(default_factory=list)  # likewise
    epochs_tried: list = field(default_factory=list)  # likewise
    seeds: list = field(default_factory=lambda: [0])  # one tuning each


def four_systems(arguments: ComparisonArguments, student, folder) -> dict[str, dict]:
    """Teacher, student, and the student undistilled: started from the teacher, and at random; with
    task_distillation also the student taught by the tuned teacher.

    Args:
        student: the distilled one's name or folder. folder: where its start, made anew, is kept.

    Returns the `systems` of `compare`.
    """
    student, folder = str(student), Path(folder)
    if not folder.exists():
        teacher, tokenizer = starting.load_teacher(arguments.teacher)
        of_first_seed = student.replace("{seed}", str(arguments.seeds[0]))
        config = AutoConfig.from_pretrained(sources.resolve_model(of_first_seed))
        undistilled = starting.start_student(config, teacher, tokenizer, seed=arguments.seed)
        aside = folder.with_name(folder.name + ".part")
        for part in (undistilled, tokenizer):
            part.save_pretrained(aside)
        aside.rename(folder)
    teachers = {"model": arguments.teacher, "tuning": "full"}
    if not arguments.learning_rates:  # a grid is one for all
        teachers["learning_rate"] = arguments.teacher_learning_rate
    if not arguments.epochs_tried:
        teachers["epochs"] = arguments.teacher_epochs
    taught = {"model": student, "taught_by": "teacher"}
    return {
        "teacher": teachers,
        "student": {"model": student},
        **({"taught student": taught} if arguments.task_distillation else {}),
        "same start": {"model": str(folder)},
        "random start": {"model": student, "start": "random"},
    }


def tune(
    arguments, data, grid=None, *, seeds=(0,), system="", once=None, quiet=False, stages=None
) -> dict:
    """The best setting of a grid, once with each seed.

    Each setting is tried with the first seed and judged on the part kept apart of the training set:
    the evaluation parts are never looked at for choosing.

    Args:
        grid: {field of TuningArguments: values}.
        once: `once(key, make)` returns `make()`, or what that returned in an earlier run. The key
            names system, task, seed and setting. stages: for each training (which, of how many).

    Returns runs (results of `finetune`, one a seed) and tried (those of the grid, with part
    "selection"). FinetuningError: a grid without a part kept apart.
    """
    settings, parts = list(ParameterGrid(grid or {})), list(data.evaluation)
    is_choice = len(settings) > 1
    if is_choice:
        if not len(data.selection):
            raise FinetuningError("a grid needs a part kept apart: load_task(..., keep_apart=0.1).")
        parts.insert(0, "selection")

    def run(setting, seed):
        name = ",".join([*(f"{key}={value:g}" for key, value in setting.items()), f"seed-{seed}"])
        own = setting | {"seed": seed, "run_folder": str(Path(arguments.run_folder) / name)}
        own["model"] = arguments.model.replace("{seed}", str(seed))
        key = {"system": system, "task": data.task.name, "seed": seed, "setting": setting}
        stage = next(stages) if stages else (1, 1)

        def make():
            return finetune(replace(arguments, **own), data, parts, quiet, stage)

        return once(key, make) if once else make()

    tried, best = [run(setting, seeds[0]) for setting in settings], 0
    if is_choice:
        best = int(np.argmax([one["metrics"]["selection"][data.task.metrics[0]] for one in tried]))
    runs = [tried[best], *(run(settings[best], seed) for seed in seeds[1:])]
    return {"runs": runs, "tried": tried if is_choice else []}


def compare(
    arguments: ComparisonArguments, systems: dict, data: tasks.TaskData, once=None, quiet=False
) -> dict[str, dict]:
    """Several systems tuned for one task by the same rules, each in a folder of its own.

    Args:
        arguments: what they share, and the grid; what a system says itself is not varied for it.
        systems: {name: {"model": ..., further fields of TuningArguments}}; `taught_by` may also
            name a system above, whose tuned model is then kept. "{seed}" in a model's path becomes
            the seed: a distillation a tuning. once: see `tune`.

    Returns {name: result of `tune`}. FinetuningError, before anything is trained: a system's
    unknown, mistyped or missing field, or one taught by a system below it.
    """
    a, grids, order = arguments, {}, list(systems)
    planned = {name: _system(name, own, a, data.task.name) for name, own in systems.items()}
    teachers = {one.taught_by for one in planned.values()}
    for name, one in planned.items():
        if one.taught_by in order[order.index(name) :]:
            raise FinetuningError(f"{name!r} must stand below {one.taught_by!r}, its teacher.")
    for name, own in systems.items():
        grid = {"learning_rate": a.learning_rates, "batch_size": a.batch_sizes}
        grid["epochs"] = a.epochs_tried
        grids[name] = {key: values for key, values in grid.items() if values and key not in own}
    of = sum(len(ParameterGrid(one)) + len(a.seeds) - 1 for one in grids.values())
    stages = ((which, of) for which in range(1, of + 1))
    how = {"seeds": a.seeds, "once": once, "quiet": quiet, "stages": stages}
    results = {}
    for name, one in planned.items():
        if name in teachers:
            one = replace(one, keep_model=True)
        if one.taught_by in results:
            tuned = results[one.taught_by]["runs"][0]["arguments"]["run_folder"]
            one = replace(one, taught_by=str(Path(tuned) / "model"))
        results[name] = tune(one, data, grids[name], system=name, **how)
    return results


def _system(name, own, arguments, task) -> TuningArguments:
    """One system of a comparison: what all share, and what it says itself."""
    shared = {one.name: getattr(arguments, one.name) for one in fields(TuningArguments)}
    del shared["model"]  # each system says its own
    folder = str(Path(arguments.run_folder) / re.sub(r"[^\w.+-]+", "-", name))
    given = shared | own | {"run_folder": folder, "task": task}
    try:
        return TypeAdapter(TuningArguments).validate_python(given)
    except ValidationError as error:
        raise FinetuningError(f"system '{name}': {error}") from None
