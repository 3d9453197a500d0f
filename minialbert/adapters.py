"""Adapter tuning: a task's adapters and head are trained and kept, one body serves many tasks.

Section 2.3 of the paper; names of the fixed ones are also those of `finetuning`.
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
    """Names of what adapter tuning trains: the adapters and the task's head.

    Raises:
        FinetuningError: for a model without adapters.
    """
    names = [name for name, _ in model.named_parameters()]
    adapters = [name for name in names if "_adapters." in name]
    if not adapters:
        raise FinetuningError(
            "this model has no adapters (adapter_reduction is None): build it with "
            "adapter_reduction=16, add some with adapters='identity', or train all parameters."
        )
    return adapters + [name for name in names if name.startswith("classifier.")]


def mark_only_adapters_trainable(model) -> int:
    """Freezes all but the adapters and the classifier; returns the number of trainable parameters.

    914,498 for the paper's smallest model and two classes: its "0.9M" (section 4).

    Raises:
        FinetuningError: for a model without adapters.
    """
    trained = set(adapter_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def adapter_state_dict(model) -> dict[str, torch.Tensor]:
    """The adapters and the classifier alone, detached: one task's file, loaded with strict=False.

    Raises:
        FinetuningError: for a model without adapters.
    """
    state = model.state_dict()
    return {name: state[name].detach() for name in adapter_parameters(model)}


def _belongs_to(model) -> dict:
    """What a task's file fits: this class, these shapes, these weights of the body."""
    own = set(adapter_parameters(model))
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name not in own:
            digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    config = model.config
    return {
        "class": type(model).__name__,
        "num_hidden_layers": config.num_hidden_layers,
        "adapter_reduction": config.adapter_reduction,
        "adapter_layer_norm": config.adapter_layer_norm,
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
    here = _belongs_to(model)
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})["minialbert_adapters"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FinetuningError(
            f"{file} is no adapter file ({error}): pass one written by save_adapters."
        ) from error
    for name, ours in here.items():
        if about[name] != ours:
            raise FinetuningError(
                f"{file} belongs to another model ({name}: {about[name]}, here {ours}): load the "
                "body it was tuned on, or tune adapters for this one."
            )
    config = model.config
    config.id2label = dict(enumerate(about["labels"]))
    config.label2id = {label: i for i, label in config.id2label.items()}
    config.problem_type = about["problem_type"]
    model.num_labels = config.num_labels
    if model.classifier.out_features != model.num_labels:
        like = {"device": model.classifier.weight.device, "dtype": model.classifier.weight.dtype}
        model.classifier = nn.Linear(model.classifier.in_features, model.num_labels, **like)
    model.load_state_dict(load_file(file), strict=False)
    return about["task"]


@contextmanager
def frozen_in_bf16(model, enabled=True):
    """Keeps frozen weight matrices in bfloat16 meanwhile: autocast need not cast them at each use.

    Exactly the numbers autocast would compute with; it remembers its casts of trained weights only.
    """
    frozen = [
        parameter
        for module in model.modules()
        if enabled and isinstance(module, nn.Linear) and not module.weight.requires_grad
        for parameter in module.parameters(recurse=False)
    ]
    whole = [parameter.data for parameter in frozen]
    for parameter in frozen:
        parameter.data = parameter.data.bfloat16()
    try:
        yield
    finally:
        for parameter, data in zip(frozen, whole, strict=True):
            parameter.data = data.to(parameter.device)
