"""What distillation minimises: equation 11 as a function and as a module."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from .losses import (
    attention_loss,
    hidden_loss,
    mlm_loss,
    output_loss,
    prediction_losses,
    relation_loss,
)
from .starting import masked_lm_head
from .training import TrainingError, autocast

TERMS = ("mlm", "attention", "hidden", "output", "embedding")


class DistillationError(TrainingError):
    """A teacher, a student and a set of choices that do not fit each other; names the fix."""


def _need(holds, message):
    if not holds:
        raise DistillationError(message)


@dataclass(frozen=True)
class LossWeights:
    """Equation 11's (l1, l2, l3) = (mlm, alignment, output).

    Inside the factor `alignment` stand `attention` and `hidden` (equation 9; 0 leaves one out, as
    in Table 3) and `embedding` (equation 12; 1 in Table 4). Two are not the paper's: `relation`, of
    MiniLMv2's `losses.relation_loss` between the last iteration and its teacher layer, and `exit`,
    of equation 8 between each earlier iteration and the last one, which it learns to stand in for.
    """

    mlm: float = 1
    alignment: float = 3
    output: float = 5
    embedding: float = 0
    attention: float = 1
    hidden: float = 1
    relation: float = 0
    exit: float = 0

    def total(self, terms):
        """Equation 11 from its terms; one of weight 0, or that is not there, is left out."""
        weights = {
            "mlm": self.mlm,
            "output": self.output,
            "attention": self.alignment * self.attention,
            "hidden": self.alignment * self.hidden,
            "embedding": self.alignment * self.embedding,
            "relation": self.alignment * self.relation,
            "exit": self.alignment * self.exit,
        }
        return sum(w * terms[name] for name, w in weights.items() if w and name in terms)


def alignment_losses(ours, theirs, layer_map, attention_mask=None, reduction="published"):
    """Equations 7 and 8, iteration by iteration: (K attention losses, K hidden losses), scalars.

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


def last_relation_loss(student, teacher, ours, theirs, layer, attention_mask=None, heads=None):
    """MiniLMv2's loss of the last iteration against a teacher layer, 1..L: queries with queries,
    keys with keys, values with values, summed. heads: of a relation; None: the teacher's."""
    encoder = student.minialbert.encoder
    x = ours.hidden_states[-2]  # what the last iteration was given
    x = encoder.attention_adapters[-1](x) if encoder.attention_adapters else x
    heads = heads or teacher.config.num_attention_heads
    attention = teacher.base_model.encoder.layer[layer - 1].attention.self
    total = 0
    for name in ("query", "key", "value"):
        with torch.no_grad():
            target = getattr(attention, name)(theirs.hidden_states[layer - 1])
        mine = getattr(encoder.block.attention, name)(x)
        total = total + relation_loss(mine, target, attention_mask, heads)
    return total


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
    _need(theirs.attentions or not maps, "maps need a teacher with attn_implementation='eager'.")
    return student.minialbert(**inputs, **wanted), theirs


def distillation_loss(
    student,
    teacher,
    batch,
    layer_map,
    weights=LossWeights(),
    reduction="published",
    relation_heads=None,
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
    if weights.alignment and weights.relation:
        layer = layer_map[-1]
        models = student, teacher, ours, theirs
        terms["relation"] = last_relation_loss(*models, layer, mask, relation_heads)
    if weights.alignment and weights.exit:
        *earlier, last = ours.hidden_states[1:]
        terms["exit"] = sum(hidden_loss(states, last.detach(), mask) for states in earlier)
    terms["embedding"] = hidden_loss(ours.hidden_states[0], theirs.hidden_states[0], mask)
    if labels is not None and (weights.mlm or weights.output):
        guesses, taught, words = masked_logits(student, teacher, ours, theirs, labels)
        if weights.output:
            terms["mlm"], terms["output"] = prediction_losses(guesses, taught, words)
        else:
            terms["mlm"] = mlm_loss(guesses, words)
    return weights.total(terms), terms


def default_layer_map(iterations: int, layers: int) -> list[int]:
    """g(k) = k L / K: [2, 4, .., 12] for the paper's K = 6 and L = 12.

    Raises:
        DistillationError: where K does not divide L.
    """
    if layers % iterations:
        raise DistillationError(
            f"{iterations} iterations do not divide {layers} teacher layers: give a layer_map."
        )
    return [k * layers // iterations for k in range(1, iterations + 1)]


class Distiller(nn.Module):
    """`distillation_loss` as a module that a trainer can train.

    The teacher is frozen, in eval mode (the published code leaves its dropout on), and neither
    saved nor trained. Under torch.distributed a term is the mean over all processes' tokens.

    Args:
        student: a MiniAlbertForMaskedLM. teacher: a masked-LM model of the library, or a base model
            without such a head, which can give no output loss.
        layer_map: the teacher layer, 1..L, of each iteration; by default `default_layer_map`.
        weights: equation 11's; attention_reduction: see `losses.attention_loss`.

    Raises:
        DistillationError: for sizes, heads, vocabularies or maps that do not fit.
    """

    def __init__(
        self,
        student,
        teacher,
        layer_map=None,
        weights=None,
        attention_reduction="published",
        relation_heads=None,
    ):
        super().__init__()
        self.student = student
        self._not_trained = (teacher.eval().requires_grad_(False),)  # a tuple hides it from torch
        self.weights = weights or LossWeights()
        self.attention_reduction, self.relation_heads = attention_reduction, relation_heads
        ours, theirs = student.config, teacher.config
        iterations, layers = ours.num_hidden_layers, theirs.num_hidden_layers
        self.layer_map = list(layer_map or default_layer_map(iterations, layers))
        self._check(ours, theirs)
        self.compares_maps = ours.num_attention_heads == theirs.num_attention_heads
        if self.compares_maps:  # the only implementation that returns maps
            teacher.set_attn_implementation("eager")

    @property
    def teacher(self):
        """The frozen teacher."""
        return self._not_trained[0]

    def _check(self, ours, theirs):
        same = ["hidden_size", "vocab_size"]
        if self.weights.alignment and self.weights.attention:
            same.append("num_attention_heads")  # maps are compared head by head
        for name in same:
            sizes = f"student {getattr(ours, name)}, teacher {getattr(theirs, name)}"
            equal = getattr(ours, name) == getattr(theirs, name)
            _need(equal, f"{name}: {sizes}; the losses need them equal.")
        iterations, layers = ours.num_hidden_layers, theirs.num_hidden_layers
        fits = len(self.layer_map) == iterations and all(1 <= g <= layers for g in self.layer_map)
        _need(fits, f"layer_map {self.layer_map}: give {iterations} teacher layers, 1..{layers}.")
        can_guess = masked_lm_head(self.teacher) is not None or not self.weights.output
        _need(can_guess, "a teacher without a masked-LM head: fit one, or set output weight to 0.")

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        """Equation 11 on a batch: ids, mask, types and labels (-100: not masked), each (B, T).

        Returns `loss` and its five `terms` by name (further ones where weighted), detached,
        unweighted; NaN: not computed.
        """
        self.teacher.to(input_ids.device)
        if attention_mask is not None and attention_mask.all():
            attention_mask = None  # nothing is padded: the losses need no mask
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        batch |= {"token_type_ids": token_type_ids, "labels": labels}
        how = self.layer_map, self.weights, self.attention_reduction, self.relation_heads
        loss, terms = distillation_loss(self.student, self.teacher, batch, *how)
        if torch.distributed.is_initialized():
            device = input_ids.device
            tokens = input_ids.numel() if attention_mask is None else attention_mask.sum()
            words = 0 if labels is None else (labels != -100).sum()
            tokens, words = _share_of(tokens, device), _share_of(words, device)
            share = {"mlm": words, "output": words}
            terms = {name: term * share.get(name, tokens) for name, term in terms.items()}
            loss = self.weights.total(terms)
        missing = torch.tensor(math.nan, device=input_ids.device)
        terms = {name: terms.get(name, missing).detach() for name in (*TERMS, *terms)}
        return ModelOutput(loss=loss, terms=terms)


def _share_of(count, device):
    """What to multiply a process's mean by, so that the mean over processes is that over tokens."""
    count = torch.as_tensor(count, dtype=torch.float32, device=device)
    total = count.clone()
    torch.distributed.all_reduce(total)
    return count * torch.distributed.get_world_size() / total.clamp_min(1)


@torch.no_grad()
def evaluate_alignment(distiller, dataset, batch_size=64, bf16=None, most=None) -> dict:
    """How close a student is on held-out windows, in eval mode; the same masks each time.

    States and maps are compared on the text as it is, words are guessed in the masked text. With
    `most`, only about that many windows are looked at, evenly spread.

    Returns hidden and attention_row (means over iterations; the latter the mean KL of a row, nats),
    each per iteration too; and where the objective asks for words mlm (the student's loss),
    masked_accuracy and teacher_masked_accuracy (share of masked pieces guessed exactly), output
    where the teacher has a head, and labelled, the number of masked pieces.
    """
    student, teacher = distiller.student, distiller.teacher
    device, training = student.device, student.training
    student.eval()
    teacher.to(device)
    windows = range(0, len(dataset), max(1, len(dataset) // most) if most else 1)
    aligned, guessed, labelled = Counter(), Counter(), 0  # sums over windows, over masked pieces
    for start in range(0, len(windows), batch_size):
        items = dataset.__getitems__(windows[start : start + batch_size])
        batch = {name: tensor.to(device) for name, tensor in dataset.collate(items).items()}
        labels = batch.pop("labels")
        plain = batch | {"input_ids": torch.where(labels == -100, batch["input_ids"], labels)}
        with autocast(device, bf16):
            both = run_both(student, teacher, plain, distiller.compares_maps)
            mask = batch["attention_mask"]
            maps, states = alignment_losses(*both, distiller.layer_map, mask, "row")
        if maps:
            aligned["attention_row"] += np.array([loss.item() for loss in maps]) * len(items)
        aligned["hidden"] += np.array([loss.item() for loss in states]) * len(items)
        if not (distiller.weights.mlm or distiller.weights.output):
            continue
        with autocast(device, bf16):
            both = run_both(student, teacher, batch, maps=False)
            ours, theirs, words = masked_logits(student, teacher, *both, labels)
        labelled += len(words)
        guessed["mlm"] += mlm_loss(ours, words).item() * len(words)
        guessed["masked_accuracy"] += (ours.argmax(-1) == words).sum().item()
        if theirs is not None:
            guessed["output"] += output_loss(ours, theirs, words).item() * len(words)
            guessed["teacher_masked_accuracy"] += (theirs.argmax(-1) == words).sum().item()
    student.train(training)

    result = {}
    for name, losses in aligned.items():
        losses = losses / len(windows)
        result |= {name: float(losses.mean()), f"{name}_per_iteration": losses.tolist()}
    if labelled:
        result |= {name: total / labelled for name, total in guessed.items()}
        result["labelled"] = labelled
    return result
