"""The paper's losses, equations 6-12, and MiniLMv2's relations, as pure functions.

Shapes: B batch, T tokens with padding, d hidden size, N_h heads, V vocabulary. Every loss is a
scalar in fp32 or better, whatever it is given (bf16 included). `attention_mask` (B, T) is 1 for a
token, 0 for padding; None: no padding.
"""

import torch
from torch.nn import functional as F

EPS = 1e-12  # as published: added to maps before the logarithm, and to squared norms
REDUCTIONS = ("published", "row")


def _wide(x):
    """fp32 at least: logarithms and sums over a vocabulary do not survive bf16."""
    return x if x.dtype == torch.float64 else x.float()


def _log_softmax(logits, temperature=1.0):
    logits = logits if temperature == 1 else logits / temperature
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.log_softmax(-1, dtype=wide)


def _chosen(labels, *logits):
    """Only the labelled rows: labels (M,), logits (M, V) each."""
    labels, logits = labels.flatten(), [x.flatten(0, -2) for x in logits]
    chosen = labels != -100
    return (labels, *logits) if chosen.all() else (labels[chosen], *(x[chosen] for x in logits))


def mlm_loss(logits, labels):
    """Equation 6: mean over labelled positions of -log p_n[y_n].

    Args:
        logits: (B, T, V), or (M, V) for M chosen positions.
        labels: (B, T) or (M,), -100 = not labelled.

    Returns 0, still attached to the graph, where nothing is labelled (the published code: NaN).
    """
    labels, logits = _chosen(labels, logits)
    return F.nll_loss(_log_softmax(logits), labels, reduction="sum") / max(len(labels), 1)


def attention_loss(student, teacher, attention_mask=None, reduction="published"):
    """Equation 7: KL(A_t || A_s) between one iteration's map and its teacher layer's.

    Args:
        student, teacher: (B, N_h, T, T), rows (queries) sum to 1, padded keys are 0. Exact zeros
            are allowed.
        reduction: "row", the mean KL of a query's row, over heads and queries that are not
            padding; "published", the same divided by T once more, as the authors' code does: T
            times smaller, and smaller still the more padding a batch has.

    Raises:
        ValueError: for maps of different shapes, or an unknown reduction.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"maps differ: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, both "
            "must be (B, heads, T, T). Give both the same number of heads and the same batch."
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction '{reduction}': choose one of {', '.join(REDUCTIONS)}.")
    heads, length = student.shape[1], student.shape[-1]
    teacher, student = _wide(teacher) + EPS, _wide(student) + EPS
    divergence = (teacher * (teacher.log() - student.log())).sum(-1)  # (B, N_h, T)
    rows = length * len(student)
    if attention_mask is not None:
        divergence = divergence * attention_mask[:, None, :]
        rows = attention_mask.sum().clamp_min(1)
    return divergence.sum() / (rows * heads * (length if reduction == "published" else 1))


def hidden_loss(student, teacher, attention_mask=None):
    """Equation 8: mean over tokens of 1 - cos(H_s, H_t); equation 12 on embedding outputs.

    Args:
        student, teacher: (B, T, d). Padding does not count.

    Raises:
        ValueError: for states of different shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"states differ: student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, both "
            "must be (B, T, d). Give both the same hidden size and the same batch."
        )
    student, teacher = _wide(student), _wide(teacher)
    square = (student.square().sum(-1) + EPS) * (teacher.square().sum(-1) + EPS)
    distance = 1 - (student * teacher).sum(-1) * square.rsqrt()  # (B, T)
    if attention_mask is None:
        return distance.mean()
    return (distance * attention_mask).sum() / attention_mask.sum().clamp_min(1)


def relation_loss(student, teacher, attention_mask=None, heads=12):
    """KL between two self-attention relations, mean over heads and rows (MiniLMv2, equation 5).

    A relation is softmax(X X^T / sqrt(d / heads)): which tokens' queries (or keys, or values) are
    alike. Neither the hidden size nor the number of attention heads need be the teacher's.

    Args:
        student, teacher: (B, T, d) queries, keys or values, each with its own d.
        heads: into how many equal parts d is cut, the student's and the teacher's.

    Raises:
        ValueError: for a d that `heads` does not divide.
    """

    def relation(x):  # (B, T, d) -> log-probabilities (B, heads, T, T)
        if x.shape[-1] % heads:
            raise ValueError(f"{heads} relation heads do not divide a hidden size of {x.shape[-1]}")
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = x @ x.transpose(2, 3) / x.shape[-1] ** 0.5
        if attention_mask is not None:
            padding = attention_mask[:, None, None, :] == 0
            scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        return _log_softmax(scores)

    divergence = F.kl_div(relation(student), relation(teacher), reduction="none", log_target=True)
    divergence = divergence.sum(-1).mean(1)  # (B, T)
    if attention_mask is None:
        return divergence.mean()
    return (divergence * attention_mask).sum() / attention_mask.sum().clamp_min(1)


def output_loss(student_logits, teacher_logits, labels, temperature=1.0):
    """Equation 10: mean over labelled positions of KL(p_t || p_s), at a temperature.

    Args:
        student_logits, teacher_logits: (B, T, V), or (M, V) for M chosen positions.
        labels: (B, T) or (M,), -100 = not labelled.
        temperature: both distributions are softmax(logits / temperature); the loss is multiplied
            by its square, which keeps gradients of one size (Hinton et al., 2015). The paper: 1.

    Returns 0, still attached to the graph, where nothing is labelled.

    Raises:
        ValueError: for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    labels, student, teacher = _chosen(labels, student_logits, teacher_logits)
    student, teacher = _log_softmax(student, temperature), _log_softmax(teacher, temperature)
    divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return divergence * temperature**2 / max(len(labels), 1)


def prediction_losses(student_logits, teacher_logits, labels):
    """(mlm_loss, output_loss at temperature 1) from one log-softmax: a sixth of a small step."""
    labels, student, teacher = _chosen(labels, student_logits, teacher_logits)
    student, count = _log_softmax(student), max(len(labels), 1)
    divergence = F.kl_div(student, _log_softmax(teacher), reduction="sum", log_target=True)
    return F.nll_loss(student, labels, reduction="sum") / count, divergence / count
