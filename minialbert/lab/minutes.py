"""How long training takes on this machine, and how many operations a step has.

python -m minialbert.lab.minutes FILE.yaml ...    of notebooks with these parameter files
"""

import os
import re
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from ..distillation import DistilArguments, Distiller
from ..modeling import MiniAlbertForMaskedLM
from ..starting import student_config
from ..training import autocast, best_device, matrix_speed
from . import costs
from .parameters import check, notebook_parameters, read_yaml


def seconds_a_step(parameters: dict) -> float:
    """Of one step of a distillation with these parameters, tried on random weights of its sizes."""
    arguments = DistilArguments(**parameters)
    layers, hidden = costs.model_shape(arguments.teacher)
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
    speed = costs.distillation(distil | {"steps": 1}) / seconds_a_step(distil)
    minutes = {
        stem: costs.WORK[stem](given, [student]) / speed / 60 for stem, given in values.items()
    }
    print(f"This machine: {os.cpu_count()} cores, products at {matrix_speed()} GFLOP/s.")
    parts = ", ".join(f"notebook {stem} {each:.0f}" for stem, each in minutes.items())
    print(f"To train takes about {sum(minutes.values()):.0f} minutes here: {parts}.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
