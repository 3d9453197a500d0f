"""What a planned run would cost: GPU hours from its steps, its sizes and a stated speed.

Counted are the products of its trainings, forward and backward (three times the forward), so an
estimate is good to a factor of about two. A model that is not known counts as BERT-base.
"""

from dataclasses import asdict
from math import prod
from pathlib import Path

from .parameters import read_yaml

KNOWN = read_yaml(Path(__file__).with_suffix(".yaml"))  # shapes of models, rows of tasks
ROW_TOKENS = 32  # of a row; rows of near lengths share a batch
VOCABULARY = 30_522


def gpu_hours(run, runs: dict, tflops: float) -> float | None:
    """Hours of a `plans.PlannedRun` on a GPU that does so many TFLOP/s; the plan's own figure where
    it gives one, None where neither it nor this file knows."""
    if run.gpu_hours is not None:
        return run.gpu_hours
    needed = [runs[name] for name in run.needs]
    work = WORK.get(run.notebook.stem)
    return work and work(run.parameters, needed) / (tflops * 1e12 * 3600)


def _forward(shape, length) -> float:
    """Operations a token of an encoder's forward: its matrices, and attention over so many."""
    layers, hidden = shape
    return layers * (24 * hidden**2 + 4 * length * hidden)


def model_shape(model, needed=()) -> tuple[int, int]:
    """Layers and hidden size of a model by its name, or of the student that a needed run makes."""
    for run in needed:
        if f"/{run.name}/" in f"{model}/":
            return run.parameters["num_iterations"], model_shape(run.parameters["teacher"])[1]
    return KNOWN["shapes"].get(model, (12, 768))


def distillation(values: dict, needed=()) -> float:
    """Operations of a distillation with these parameters of notebook 07."""
    teacher, length = model_shape(values["teacher"], needed), values["window"]
    student = (values["num_iterations"], teacher[1])
    masked = values["masking_probability"] * values["masked_share"]
    heads = masked * 4 * 2 * teacher[1] * VOCABULARY  # the teacher's once, ours three times
    windows = (values["steps"] or 0) * values["batch_size"]
    if values["epochs"]:
        windows = values["epochs"] * KNOWN["windows"].get(values["corpus"], 1_000_000)
    tokens = windows * length
    return tokens * (_forward(teacher, length) + 3 * _forward(student, length) + heads)


def _tuning(values: dict, needed=()) -> float:
    teacher = {"model": values["teacher"], "epochs": values["teacher_epochs"]}
    usual = [teacher] + 3 * [{"model": values["student"]}]
    systems = (values["systems"] or {}).values() or usual
    return sum(_one_tuning(values | system, needed) for system in systems)


def _one_tuning(values: dict, needed) -> float:
    layers, hidden = model_shape(values["model"], needed)
    shape = (values.get("num_iterations") or layers, hidden)
    rows = min(KNOWN["rows"].get(values["task"], 10_000), values.get("limit") or 10**9)
    grids = (values.get(name) or [None] for name in ("learning_rates", "batch_sizes"))
    epochs = values.get("epochs_tried") or [values.get("epochs", 3)]
    # every setting with the first seed, the best with the others
    passes = prod(map(len, grids)) * sum(epochs) + (len(values.get("seeds", [0])) - 1) * max(epochs)
    return passes * rows * ROW_TOKENS * 3 * _forward(shape, ROW_TOKENS)


def _ablations(values: dict, needed=()) -> float:
    from ..distillation import DistilArguments  # not above: torch takes seconds to import

    recipe = asdict(DistilArguments()) | values["recipe"] | {"steps": values["steps"]}
    work = distillation(recipe, needed)
    tuned = {"model": recipe["teacher"], "num_iterations": recipe["num_iterations"]}
    for task in values["finetune"]:
        work += _one_tuning(values["tuning"] | tuned | {"task": task}, needed)
    return work * prod(len(values[name]) for name in ("variants", "reductions", "seeds"))


def _stop_early(values: dict, needed=()) -> float:
    tuned = values | {"model": values["student"]}
    return len(values["ways"]) * _one_tuning(tuned, needed)


def _stay_small(values: dict, needed=()) -> float:
    tuned = {"model": values["student"], "epochs": 2, "seeds": values["seeds"]}
    tasks = values["tuning"].items()
    return sum(_one_tuning(tuned | {"task": name, "limit": rows}, needed) for name, rows in tasks)


WORK = {
    "07_distil": distillation,
    "09_glue": _tuning,
    "10_biomedical_ner": _tuning,
    "11_adapter_tuning": _tuning,
    "12_ablations": _ablations,
    "15_stop_early": _stop_early,
    "16_stay_small": _stay_small,
}
