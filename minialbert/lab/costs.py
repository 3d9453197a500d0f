"""What a planned run would cost: GPU hours from its steps, its sizes and a stated speed.

Counted are the products of its trainings, forward and backward (three times the forward), so an
estimate is good to a factor of about two. A model that is not known counts as BERT-base.

    python -m minialbert.lab.costs FILE.yaml ...    minutes on this machine, by a short timed step
"""

import os
import re
import sys
import time
from dataclasses import asdict, fields
from math import prod
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from ..distillation import DistilArguments, Distiller
from ..modeling import MiniAlbertForMaskedLM
from ..starting import student_config
from ..training import autocast, best_device, matrix_speed
from .parameters import check, notebook_parameters, read_yaml

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


def _shape(model, needed=()) -> tuple[int, int]:
    """Layers and hidden size of a model by its name, or of the student that a needed run makes."""
    for run in needed:
        if f"/{run.name}/" in f"{model}/":
            return run.parameters["num_iterations"], _shape(run.parameters["teacher"])[1]
    return KNOWN["shapes"].get(model, (12, 768))


def _distillation(values: dict, needed=()) -> float:
    teacher, length = _shape(values["teacher"], needed), values["window"]
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
    layers, hidden = _shape(values["model"], needed)
    shape = (values.get("num_iterations") or layers, hidden)
    rows = min(KNOWN["rows"].get(values["task"], 10_000), values.get("limit") or 10**9)
    grids = (values.get(name) or [None] for name in ("learning_rates", "batch_sizes"))
    epochs = values.get("epochs_tried") or [values.get("epochs", 3)]
    # every setting with the first seed, the best with the others
    passes = prod(map(len, grids)) * sum(epochs) + (len(values.get("seeds", [0])) - 1) * max(epochs)
    return passes * rows * ROW_TOKENS * 3 * _forward(shape, ROW_TOKENS)


def _ablations(values: dict, needed=()) -> float:
    recipe = asdict(DistilArguments()) | values["recipe"] | {"steps": values["steps"]}
    work = _distillation(recipe, needed)
    tuned = {"model": recipe["teacher"], "num_iterations": recipe["num_iterations"]}
    for task in values["finetune"]:
        work += _one_tuning(values["tuning"] | tuned | {"task": task}, needed)
    return work * prod(len(values[name]) for name in ("variants", "reductions", "seeds"))


WORK = {
    "07_distil": _distillation,
    "09_glue": _tuning,
    "10_biomedical_ner": _tuning,
    "11_adapter_tuning": _tuning,
    "12_ablations": _ablations,
}


def seconds_a_step(parameters: dict) -> float:
    """Of one step of a distillation with these parameters, tried on random weights of its sizes."""
    arguments = DistilArguments(**parameters)
    layers, hidden = _shape(arguments.teacher)
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden}
    config = BertConfig(num_hidden_layers=layers, num_attention_heads=hidden // 32, **sizes)
    names = ("embedding_size", "adapter_reduction")
    own = {name: getattr(arguments, name) for name in names}
    own["num_hidden_layers"] = arguments.num_iterations
    teacher = BertForMaskedLM(config)
    if arguments.bf16:
        teacher.bfloat16()
    student = MiniAlbertForMaskedLM(student_config(config, **own))
    distiller = Distiller(student, teacher, arguments.layer_map, arguments.weights)
    distiller.to(best_device())
    ids = torch.randint(1000, (arguments.batch_size, arguments.window), device=best_device())
    share = arguments.masking_probability * arguments.masked_share
    labels = ids.where(torch.rand(ids.shape, device=ids.device) < share, -100)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with autocast(ids.device, arguments.bf16):
            distiller(ids, labels=labels).loss.backward()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def operations_of_step(distiller, batch, bf16=None) -> int:
    """Multiplications and additions of one distillation step, forward and backward, counted."""
    with autocast(distiller.student.device, bf16), FlopCounterMode(display=False) as counter:
        distiller(**batch).loss.backward()
    distiller.zero_grad()
    return counter.get_total_flops()


def main(files):
    """Says how many minutes notebooks would take here with these parameter files, of which the
    first is notebook 07's."""
    values = {}
    for file in map(Path, files):
        stem = re.match(r"# notebook: (\w+)", file.read_text(encoding="utf8"))[1]
        known = notebook_parameters(Path("notebooks", f"{stem}.ipynb"))
        values[stem] = vars(check(read_yaml(file), known))
    distil = {field.name: values["07_distil"][field.name] for field in fields(DistilArguments)}
    student = SimpleNamespace(name="lab", parameters=distil)  # `make run` distils into runs/lab
    speed = _distillation(distil | {"steps": 1}) / seconds_a_step(distil)
    minutes = {stem: WORK[stem](given, [student]) / speed / 60 for stem, given in values.items()}
    print(f"This machine: {os.cpu_count()} cores, products at {matrix_speed()} GFLOP/s.")
    parts = ", ".join(f"notebook {stem} {each:.0f}" for stem, each in minutes.items())
    print(f"To train takes about {sum(minutes.values()):.0f} minutes here: {parts}.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
