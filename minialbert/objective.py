"""What distillation minimises: equation 11 as a function and as a module."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from .losses import (
    REDUCTIONS,
    attention_loss,
    hidden_loss,
    mlm_loss,
    output_loss,
    prediction_losses,
)
from .starting import masked_lm_head
from .training import TrainingError, autocast

TERMS = ("mlm", "attention", "hidden", "output", "embedding")


class DistillationError(TrainingError):
    """A teacher, a student and a set of choices that do not fit each other; names the fix."""


@dataclass(frozen=True)
class LossWeights:
    """Equation 11's (l1, l2, l3) = (mlm, alignment, output).

    Inside the factor `alignment` stand `attention` and `hidden` (equation 9; 0 leaves one out, as
    in Table 3) and `embedding` (equation 12; 1 in Table 4).
    """

    mlm: float = 1
    alignment: float = 3
    output: float = 5
    embedding: float = 0
    attention: float = 1
    hidden: float = 1

    def total(self, terms):
        """Equation 11 from its terms; one of weight 0, or that is not there, is left out."""
        weights = {
            "mlm": self.mlm,
            "output": self.output,
            "attention": self.alignment * self.attention,
            "hidden": self.alignment * self.hidden,
            "embedding": self.alignment * self.embedding,
        }
        return sum(w * terms[name] for name, w in weights.items() if w and name in terms)


def alignment_losses(ours, theirs, layer_map, attention_mask=None, reduction="published"):
    """Equations 7 and 8, iteration by iteration: (K attention losses, K hidden losses), scalars.

    Args:
        ours, theirs: the encoders' outputs with hidden states, and with maps where these are to be
            compared (else the first list is empty). layer_map: K teacher layers, 1..L.
    """
    attention = [
        attention_loss(student, theirs.attentions[layer - 1], attention_mask, reduction)
        for student, layer in zip(ours.attentions or (), layer_map)
    ]
    hidden = [
        hidden_loss(student, theirs.hidden_states[layer], attention_mask)
        for student, layer in zip(ours.hidden_states[1:], layer_map)
    ]
    return attention, hidden


def masked_logits(student, teacher, ours, theirs, labels):
    """Both models' guesses where a word piece is masked, and nowhere else: the vocabulary is large.

    Returns (M, V) twice (the second None for a teacher without a head) and the M labels.
    """
    masked = labels != -100
    guesses = student.predict(ours.hidden_states[-1][masked])
    head, taught = masked_lm_head(teacher), None
    if head is not None:
        with torch.no_grad():
            taught = head(theirs.hidden_states[-1][masked])
    return guesses, taught, labels[masked]


def run_both(student, teacher, inputs, maps):
    """The encoders' outputs (ours, theirs) with hidden states, the teacher's without gradients."""
    wanted = {"output_hidden_states": True, "output_attentions": maps}
    with torch.no_grad():
        theirs = teacher.base_model(**inputs, **wanted)
    if maps and not theirs.attentions:
        raise DistillationError(
            f"{type(teacher).__name__} gives no attention maps: load it with "
            "attn_implementation='eager', or set the attention weight to 0."
        )
    return student.minialbert(**inputs, **wanted), theirs


def distillation_loss(
    student, teacher, batch, layer_map, weights=LossWeights(), reduction="published"
):
    """Equation 11 on a batch of input_ids, attention_mask, token_type_ids and labels, each (B, T).

    Returns (loss, terms): the terms by name, their weights not applied; attention and hidden
    losses are summed over the K iterations. What has weight 0 is not computed, the embedding loss
    excepted, which costs nothing. Labels are -100 where nothing is masked.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    labels, mask = batch.get("labels"), batch.get("attention_mask")
    maps = bool(weights.alignment and weights.attention)
    ours, theirs = run_both(student, teacher, inputs, maps)

    attention, hidden = alignment_losses(ours, theirs, layer_map, mask, reduction)
    terms = {"hidden": sum(hidden)}
    if maps:
        terms["attention"] = sum(attention)
    terms["embedding"] = hidden_loss(ours.hidden_states[0], theirs.hidden_states[0], mask)
    if labels is not None and (weights.mlm or weights.output):
        guesses, taught, words = masked_logits(student, teacher, ours, theirs, labels)
        if weights.output:
            terms["mlm"], terms["output"] = prediction_losses(guesses, taught, words)
        else:
            terms["mlm"] = mlm_loss(guesses, words)
    return weights.total(terms), terms


@dataclass
class DistillationOutput(ModelOutput):
    """loss: equation 11; terms: its five terms by name, detached, weights not applied (NaN: not
    computed)."""

    loss: torch.Tensor | None = None
    terms: dict[str, torch.Tensor] | None = None


def default_layer_map(iterations: int, layers: int) -> list[int]:
    """g(k) = k L / K: [2, 4, .., 12] for the paper's K = 6 and L = 12.

    Raises:
        DistillationError: where K does not divide L.
    """
    if layers % iterations:
        example = [max(1, round(k * layers / iterations)) for k in range(1, iterations + 1)]
        raise DistillationError(
            f"{iterations} iterations do not divide {layers} teacher layers: give layer_map, one "
            f"teacher layer (1..{layers}) per iteration, e.g. {example}."
        )
    return [k * layers // iterations for k in range(1, iterations + 1)]


class Distiller(nn.Module):
    """`distillation_loss` as a module that a trainer can train.

    The teacher is frozen and in eval mode (the published code leaves its dropout on), and no
    submodule: it is neither saved nor trained. Under torch.distributed each term is the mean over
    all processes' tokens.

    Args:
        student: a MiniAlbertForMaskedLM. teacher: a masked-LM model of the library, or, without a
            masked-LM head, its base model, which can give no output loss.
        layer_map: the teacher layer, 1..L, of each iteration; by default `default_layer_map`.
        weights: equation 11's; attention_reduction: see `losses.attention_loss`.

    Raises:
        DistillationError: for sizes, heads, vocabularies or maps that do not fit.
    """

    def __init__(
        self, student, teacher, layer_map=None, weights=None, attention_reduction="published"
    ):
        super().__init__()
        self.student = student
        self._not_trained = (teacher.eval().requires_grad_(False),)  # a tuple hides it from torch
        self.weights = weights or LossWeights()
        self.attention_reduction = attention_reduction
        iterations, layers = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        self.layer_map = list(layer_map or default_layer_map(iterations, layers))
        self._check(student.config, teacher.config)
        if self.compares_maps:  # the only implementation that returns maps
            teacher.set_attn_implementation("eager")

    @property
    def teacher(self):
        """The frozen teacher."""
        return self._not_trained[0]

    @property
    def compares_maps(self) -> bool:
        """Whether maps can be compared: both models have equally many heads."""
        ours, theirs = self.student.config, self.teacher.config
        return ours.num_attention_heads == theirs.num_attention_heads

    def _check(self, student, teacher):
        same = ["hidden_size", "vocab_size"]
        if self.weights.alignment and self.weights.attention:
            same.append("num_attention_heads")  # maps are compared head by head
        for name in same:
            ours, theirs = getattr(student, name), getattr(teacher, name)
            if ours != theirs:
                raise DistillationError(
                    f"student {name} {ours}, teacher {name} {theirs}: the losses need them equal."
                )
        layers, iterations = teacher.num_hidden_layers, student.num_hidden_layers
        if len(self.layer_map) != iterations or not all(1 <= g <= layers for g in self.layer_map):
            raise DistillationError(
                f"layer_map {self.layer_map}: give one teacher layer, 1..{layers}, for each of the "
                f"{iterations} iterations."
            )
        if self.attention_reduction not in REDUCTIONS:
            raise DistillationError(f"attention_reduction: choose one of {', '.join(REDUCTIONS)}.")
        if self.weights.output and masked_lm_head(self.teacher) is None:
            raise DistillationError(
                "this teacher has no masked-LM head, so it gives no output loss: fit one with "
                "fit_mlm_head, or set the output weight to 0."
            )

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        """Equation 11 on a batch: ids, mask, types and labels (-100: not masked), each (B, T)."""
        self.teacher.to(input_ids.device)
        if attention_mask is not None and attention_mask.all():
            attention_mask = None  # nothing is padded: the losses need no mask
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        batch["token_type_ids"] = token_type_ids
        how = self.layer_map, self.weights, self.attention_reduction
        loss, terms = distillation_loss(self.student, self.teacher, batch, *how)
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            tokens = input_ids.numel() if attention_mask is None else attention_mask.sum()
            words = 0 if labels is None else (labels != -100).sum()
            shares = {name: _share_of(words, input_ids.device) for name in ("mlm", "output")}
            of_tokens = _share_of(tokens, input_ids.device)
            terms = {name: term * shares.get(name, of_tokens) for name, term in terms.items()}
            loss = self.weights.total(terms)
        missing = torch.tensor(math.nan, device=input_ids.device)
        return DistillationOutput(loss, {n: terms.get(n, missing).detach() for n in TERMS})


def _share_of(count, device):
    """What to multiply a process's mean by, so that the mean over processes is that over tokens."""
    count = torch.as_tensor(count, dtype=torch.float32, device=device)
    total = count.clone()
    torch.distributed.all_reduce(total)
    return count * torch.distributed.get_world_size() / total.clamp_min(1)


# -- how close a student is ------------------------------------------------------------------------


@torch.no_grad()
def evaluate_alignment(distiller, dataset, batch_size=64, bf16=None, most=None) -> dict:
    """How close a student is on held-out windows, in eval mode; the same masks each time.

    States and maps are compared on the text as it is, words are guessed in the masked text. With
    `most`, only about that many windows are looked at, evenly spread.

    Returns hidden and attention_row (means over iterations; the latter the mean KL of a row, nats),
    each per iteration too, mlm (the student's loss), masked_accuracy and teacher_masked_accuracy
    (share of masked pieces guessed exactly), output where the teacher has a head, and labelled,
    the number of masked pieces.
    """
    student, teacher = distiller.student, distiller.teacher
    device, training = student.device, student.training
    student.eval()
    teacher.to(device)
    windows = range(0, len(dataset), max(1, len(dataset) // most) if most else 1)
    aligned, words = [], []
    for start in range(0, len(windows), batch_size):
        items = dataset.__getitems__(windows[start : start + batch_size])
        batch = {name: tensor.to(device) for name, tensor in dataset.collate(items).items()}
        labels = batch.pop("labels")
        plain = batch | {"input_ids": torch.where(labels == -100, batch["input_ids"], labels)}
        with autocast(device, bf16):
            ours, theirs = run_both(student, teacher, plain, distiller.compares_maps)
            mask = batch["attention_mask"]
            losses = alignment_losses(ours, theirs, distiller.layer_map, mask, "row")
            ours, theirs = run_both(student, teacher, batch, maps=False)
            guesses = masked_logits(student, teacher, ours, theirs, labels)
        aligned.append([[loss.item() * len(items) for loss in part] for part in losses if part])
        words.append(_count_words(*guesses))
    student.train(training)

    result = {}
    names = ["attention_row", "hidden"][-len(aligned[0]) :]
    for name, losses in zip(names, np.sum(aligned, 0) / len(windows)):
        result |= {name: float(losses.mean()), f"{name}_per_iteration": losses.tolist()}
    labelled = sum(batch["labelled"] for batch in words)
    for name in words[0]:
        result[name] = sum(batch[name] for batch in words) / max(labelled, 1)
    return result | {"labelled": labelled}


def _count_words(ours, theirs, labels) -> dict:
    """Sums over a batch's masked pieces."""
    sums = {
        "mlm": mlm_loss(ours, labels).item() * len(labels),
        "masked_accuracy": (ours.argmax(-1) == labels).sum().item(),
        "labelled": len(labels),
    }
    if theirs is not None:
        sums["output"] = output_loss(ours, theirs, labels).item() * len(labels)
        sums["teacher_masked_accuracy"] = (theirs.argmax(-1) == labels).sum().item()
    return sums
