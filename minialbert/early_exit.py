"""Stop early: every visit learns to answer, and each text leaves as soon as its answer is ready.

The answer after a visit is what the head says of its state: logits (B, C), of a tagger (B, T, C).
A model without a head answers with sentence vectors (B, d), the means of its states over tokens.

    model(**batch, exit_policy=Confidence(0.9)).exit_visits
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from .adapters import FinetuningError
from .task_distillation import logits_loss

WAYS = ("all", "heads", "depth")


def answer_of(model, x, tokens, visit):
    """The answer after a visit, whose states x are (B, T, d); tokens: (B, T), 0 for padding."""
    if hasattr(model, "predict"):
        return model.predict(x, tokens, visit)
    weights = tokens[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


def answers_by_visit(model, attention_mask, **inputs) -> list:
    """The answers after visit 1, 2, .., K to one batch."""
    inputs |= {"attention_mask": attention_mask, "output_hidden_states": True}
    states = model.base_model(**inputs).hidden_states[1:]
    return [answer_of(model, x, attention_mask, k) for k, x in enumerate(states, 1)]


# -- training --------------------------------------------------------------------------------------


class EveryVisitModel(nn.Module):
    """A student in fine-tuning whose every visit shall be able to answer, for a trainer to train.

    L = L_task(z_K) + mean over k < K of L_task(z_k) + KL(p_K || p_k)

    z_k are the logits after visit k, p_k their softmax; the KL moves visit k alone. In a regression
    it is the squared distance of z_k to z_K, of a tagger the mean over labelled words.

    Args:
        kind: of the task: "classification", "regression", "tagging".
        way: "all", as above; "heads", the same, with a head for each visit; "depth", L_task(z_k)
            for a k drawn at each step, from torch's random state, which a checkpoint keeps.

    Raises:
        FinetuningError: for another way, or another model than a MiniALBERT of two visits and more.
    """

    def __init__(self, student, kind, way="all"):
        super().__init__()
        self.student, self.kind, self.way = student, kind, way
        if way not in WAYS:
            raise FinetuningError(f"every_visit={way!r}: use one of {', '.join(WAYS)}.")
        if student.config.model_type != "minialbert" or student.config.num_hidden_layers < 2:
            raise FinetuningError("every_visit is of a MiniALBERT with two visits or more.")

    def forward(self, labels, **inputs):
        """`loss`, and its `terms` by name, detached."""
        if self.way == "depth":
            drawn = int(torch.randint(1, self.student.config.num_hidden_layers + 1, ()))
            return self.student(labels=labels, num_iterations=drawn, **inputs)
        *earlier, last = answers_by_visit(self.student, **inputs)
        task = self.student.compare(last, labels)
        own = [self.student.compare(z, labels) for z in earlier]
        agreed = [logits_loss(z, last.detach(), labels, self.kind) for z in earlier]
        terms = {"task": task}
        terms |= {"earlier": torch.stack(own).mean(), "agreement": torch.stack(agreed).mean()}
        detached = {name: term.detach() for name, term in terms.items()}
        return ModelOutput(loss=sum(terms.values()), terms=detached)


# -- leaving ---------------------------------------------------------------------------------------


@dataclass
class ExitOutput(ModelOutput):
    """Each text's answer at the visit `exit_visits` (B,) at which it left: loss and logits as
    without a policy, or, of a model without a head, last_hidden_state (B, T, d)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    exit_visits: torch.Tensor | None = None


def kind_of(model) -> str:
    """What a model's answers are: "classification", "regression", "tagging" or "vectors"."""
    if not hasattr(model, "predict"):
        return "vectors"
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return "tagging"
    return "regression" if model.config.num_labels == 1 else "classification"


class ExitPolicy:
    """When a text may leave. Models call it; a policy of your own says `is_ready`."""

    def is_ready(self, answers, kind, tokens):
        """Which texts need no further visit: (B,), true or false.

        Args:
            answers: after visit 1, 2, .. up to now, a tensor each. kind: see `kind_of`.
            tokens: (B, T), 1 for a token, 0 for padding.
        """
        raise NotImplementedError

    def __call__(self, model, ids, mask, types=None, positions=None, embeds=None, labels=None):
        """Runs a model on a batch, as its `forward` takes it; texts that are ready leave the batch.

        Raises ValueError for a mask that is not (B, T), or an answer the policy cannot judge.
        """
        if mask is not None and mask.dim() != 2:
            raise ValueError("an exit policy needs an attention_mask (B, T).")
        body, kind = model.base_model, kind_of(model)
        x, hidden = body.embed(ids, mask, types, positions, embeds, False)
        tokens = x.new_ones(x.shape[:2], dtype=torch.long) if mask is None else mask
        here, answers = torch.arange(len(x), device=x.device), []  # the rows still in the batch
        visits, last, left = torch.zeros_like(here), body.config.num_hidden_layers, None
        for k in range(last):
            x, _ = body.encoder.visit(k, x, hidden)
            answers.append(answer_of(model, x, tokens, k + 1))
            ready = torch.ones_like(here, dtype=torch.bool)
            if k + 1 < last:
                ready = self.is_ready(answers, kind, tokens)
            said = x if kind == "vectors" else answers[-1]
            left = said.new_empty(len(visits), *said.shape[1:]) if left is None else left
            left[here[ready]], visits[here[ready]] = said[ready], k + 1
            if ready.all():
                break
            stay = ~ready
            x, tokens, here = x[stay], tokens[stay], here[stay]
            answers = [answer[stay] for answer in answers]
            hidden = hidden if hidden is None or len(hidden) == 1 else hidden[stay]
        if kind == "vectors":
            return ExitOutput(last_hidden_state=left, exit_visits=visits)
        loss = None if labels is None else model.compare(left, labels)
        return ExitOutput(loss, left, exit_visits=visits)


@dataclass(frozen=True)
class FixedVisits(ExitPolicy):
    """All texts leave after so many visits."""

    visits: int

    def is_ready(self, answers, kind, tokens):
        rows = answers[-1].flatten(1)[:, 0]
        return torch.full_like(rows, len(answers) >= self.visits, dtype=torch.bool)


@dataclass(frozen=True)
class Patience(ExitPolicy):
    """A text leaves when its answer stayed the same so many times in a row (PABEE, Zhou et al.).

    The same: the same class, of a tagger at every token; a score that moved by no more than the
    tolerance; a vector whose 1 - cosine to the one before is no more than it.
    """

    times: int = 1
    tolerance: float | None = None

    def is_ready(self, answers, kind, tokens):
        steps = list(zip(answers, answers[1:], strict=False))[-self.times :]
        if len(steps) < self.times:
            return torch.zeros_like(answers[-1].flatten(1)[:, 0], dtype=torch.bool)
        return torch.stack([self._is_same(*step, kind, tokens) for step in steps]).all(0)

    def _is_same(self, before, now, kind, tokens):
        if kind in ("classification", "tagging"):
            same = before.argmax(-1) == now.argmax(-1)
            return same if kind == "classification" else (same | (tokens == 0)).all(1)
        if self.tolerance is None:
            raise ValueError("scores and vectors hardly ever repeat: give Patience a tolerance.")
        moved = (now - before).abs().amax(-1)
        if kind == "vectors":
            moved = 1 - F.cosine_similarity(before.float(), now.float(), dim=-1)
        return moved <= self.tolerance


@dataclass(frozen=True)
class Confidence(ExitPolicy):
    """A text leaves when its likeliest class has this probability; of a tagger, at every token."""

    threshold: float

    def is_ready(self, answers, kind, tokens):
        if kind not in ("classification", "tagging"):
            raise ValueError("only classes have probabilities: use Patience with a tolerance.")
        sure = answers[-1].float().softmax(-1).amax(-1) >= self.threshold
        return sure if kind == "classification" else (sure | (tokens == 0)).all(1)
