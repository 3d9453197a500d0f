"""Adapter tuning: a task's adapters and head are trained and kept, one body serves many tasks.

Section 2.3 of the paper. Each function raises FinetuningError for a model without adapters.
"""

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from .checkpoints import TrainingError


class FinetuningError(TrainingError):
    """A model, a task and choices that do not fit each other; the message names the fix."""


def adapter_parameters(model) -> list[str]:
    """Names of what adapter tuning trains: the adapters and the task's head."""
    names = [name for name, _ in model.named_parameters()]
    adapters = [name for name in names if "_adapters." in name]
    if not adapters:
        raise FinetuningError(
            "this model has no adapters: add some (adapters='identity'), or train all parameters."
        )
    return adapters + [name for name in names if name.startswith("classifier.")]


def mark_only_adapters_trainable(model) -> int:
    """Freezes all but the adapters and the classifier; returns the number of trainable parameters.

    914,498 for the paper's smallest model and two classes: its "0.9M" (section 4).
    """
    trained = set(adapter_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return model.num_parameters(only_trainable=True)


def adapter_state_dict(model) -> dict[str, torch.Tensor]:
    """The adapters and the classifier alone, detached; to be loaded with strict=False."""
    state = model.state_dict()
    return {name: state[name].detach() for name in adapter_parameters(model)}


def _belongs_to(model) -> dict:
    """What a task's file fits: this class, these shapes, these weights of the body."""
    own = set(adapter_parameters(model))
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name not in own:
            digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    shapes = ("num_hidden_layers", "adapter_reduction", "adapter_layer_norm")
    return {
        "class": type(model).__name__,
        **{name: getattr(model.config, name) for name in shapes},
        "body": digest.hexdigest()[:16],
    }


def save_adapters(model, file, task="") -> Path:
    """Writes a task's adapters and classifier; the file's header says what they belong to."""
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    about = {"task": task, "labels": labels, "problem_type": model.config.problem_type}
    state = {name: tensor.contiguous().cpu() for name, tensor in adapter_state_dict(model).items()}
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file, {"minialbert_adapters": json.dumps(about | _belongs_to(model))})
    return Path(file)


def load_adapters(model, file) -> str:
    """Gives a loaded body another task, in place: adapters, classifier, labels. Returns the task.

    Raises:
        FinetuningError: for no adapter file, or one of another body, K or kind of task.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})["minialbert_adapters"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        message = f"{file} is no adapter file ({error}): pass one written by save_adapters."
        raise FinetuningError(message) from error
    for name, ours in _belongs_to(model).items():
        if about[name] != ours:
            difference = f"{name}: {about[name]}, here {ours}"
            raise FinetuningError(f"{file} was tuned on another model ({difference}): load that.")
    config = model.config
    config.id2label = dict(enumerate(about["labels"]))
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.problem_type = about["problem_type"]
    model.num_labels = config.num_labels
    head = model.classifier
    if head.out_features != model.num_labels:
        like = {"device": head.weight.device, "dtype": head.weight.dtype}
        model.classifier = nn.Linear(head.in_features, model.num_labels, **like)
    model.load_state_dict(load_file(file), strict=False)
    return about["task"]


@contextmanager
def frozen_in_bf16(model, enabled=True):
    """Keeps frozen weight matrices in bfloat16 meanwhile: autocast need not cast them at each use.

    Exactly the numbers autocast would compute with; it remembers its casts of trained weights only.
    """
    layers = [module for module in model.modules() if enabled and isinstance(module, nn.Linear)]
    frozen = [one for layer in layers for one in layer.parameters() if not one.requires_grad]
    whole = [parameter.data for parameter in frozen]
    for parameter in frozen:
        parameter.data = parameter.data.bfloat16()
    try:
        yield
    finally:
        for parameter, data in zip(frozen, whole, strict=True):
            parameter.data = data.to(parameter.device)
