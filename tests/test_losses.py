"""The losses against plain writings of their equations, at their edges, and in half precision."""

import math

import pytest
import torch
from torch.nn import functional as F

from minialbert.losses import (
    attention_loss,
    hidden_loss,
    mlm_loss,
    output_loss,
    relation_loss,
)

B, HEADS, T, D, V = 3, 2, 5, 8, 11
LENGTHS = [5, 3, 1]


@pytest.fixture
def mask():
    return (torch.arange(T) < torch.tensor(LENGTHS)[:, None]).long()


def maps(seed, mask=None):
    scores = (
        torch.randn(
            B, HEADS, T, T, generator=torch.Generator().manual_seed(seed), dtype=torch.double
        )
        * 2
    )
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -math.inf)
    return scores.softmax(-1)


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def plain_kl(teacher, student, rows):
    total = 0.0
    for b, h, i in rows:
        for j in range(T):
            t, s = teacher[b, h, i, j].item() + 1e-12, student[b, h, i, j].item() + 1e-12
            total += t * math.log(t / s)
    return total


def test_attention_loss_by_hand(mask):
    student, teacher = maps(1, mask), maps(2, mask)
    rows = [(b, h, i) for b in range(B) for h in range(HEADS) for i in range(LENGTHS[b])]
    total = plain_kl(teacher, student, rows)
    row = attention_loss(student, teacher, mask, reduction="row")
    assert row.item() == pytest.approx(total / len(rows), rel=1e-9)
    published = attention_loss(student, teacher, mask, reduction="published")
    assert published.item() == pytest.approx(row.item() / T, rel=1e-12)
    rows = [(b, h, i) for b in range(B) for h in range(HEADS) for i in range(T)]
    assert attention_loss(maps(1), maps(2), reduction="row").item() == pytest.approx(
        plain_kl(maps(2), maps(1), rows) / len(rows), rel=1e-9
    )
    assert attention_loss(student, teacher, mask).item() == published.item(), (
        "the published reduction is the default"
    )


def test_the_divergence_is_zero_only_for_equal_maps_and_not_symmetric(mask):
    assert attention_loss(maps(1, mask), maps(1, mask), mask, "row").item() == pytest.approx(
        0, abs=1e-9
    )
    there = attention_loss(maps(1, mask), maps(2, mask), mask, "row")
    back = attention_loss(maps(2, mask), maps(1, mask), mask, "row")
    assert there > 0.05 and abs(there - back) > 1e-3


def test_padding_further_changes_nothing(mask):
    student, teacher = maps(1, mask), maps(2, mask)
    states = randn(3, B, T, D), randn(4, B, T, D)

    def wider(x, dims):
        return F.pad(x, (0, 3) * dims)

    # padded query rows carry whatever the model makes of them
    wide_student = torch.cat(
        [wider(student, 1), maps(5)[..., :3, :].repeat(1, 1, 1, 2)[..., : T + 3]], 2
    )
    wide_teacher = torch.cat(
        [wider(teacher, 1), maps(6)[..., :3, :].repeat(1, 1, 1, 2)[..., : T + 3]], 2
    )
    row = attention_loss(student, teacher, mask, "row")
    torch.testing.assert_close(
        attention_loss(wide_student, wide_teacher, wider(mask, 1), "row"), row
    )
    published = attention_loss(wide_student, wide_teacher, wider(mask, 1), "published")
    torch.testing.assert_close(published, row / (T + 3))  # the published one does depend on padding

    wide = [torch.cat([x, randn(7, B, 3, D)], 1) for x in states]
    torch.testing.assert_close(hidden_loss(*wide, wider(mask, 1)), hidden_loss(*states, mask))


def test_hidden_loss_by_hand(mask):
    student, teacher = randn(1, B, T, D), randn(2, B, T, D)
    cosines = [
        F.cosine_similarity(student[b, i], teacher[b, i], 0).item()
        for b in range(B)
        for i in range(LENGTHS[b])
    ]
    assert hidden_loss(student, teacher, mask).item() == pytest.approx(
        1 - sum(cosines) / len(cosines), rel=1e-9
    )
    assert hidden_loss(student, 3 * student).item() == pytest.approx(0, abs=1e-9), (
        "the length of a vector is free"
    )
    assert hidden_loss(student, -student).item() == pytest.approx(2)


def test_output_and_mlm_loss_by_hand():
    student, teacher = randn(1, B, T, V), randn(2, B, T, V)
    labels = torch.full((B, T), -100)
    labels[0, 1], labels[2, 4] = 3, 7
    places = [(0, 1), (2, 4)]
    for temperature in (1.0, 2.5):
        total = 0.0
        for b, i in places:
            p, q = (F.softmax(x[b, i] / temperature, -1) for x in (teacher, student))
            total += (p * (p / q).log()).sum().item() * temperature**2
        assert output_loss(student, teacher, labels, temperature).item() == pytest.approx(
            total / 2, rel=1e-9
        )
    expected = -sum(student[b, i].log_softmax(-1)[labels[b, i]].item() for b, i in places) / 2
    assert mlm_loss(student, labels).item() == pytest.approx(expected, rel=1e-9)
    chosen = labels.flatten() != -100  # only the labelled rows, as the distiller gives them
    rows = [x.flatten(0, 1)[chosen] for x in (student, teacher)]
    torch.testing.assert_close(
        mlm_loss(rows[0], labels.flatten()[chosen]), mlm_loss(student, labels)
    )
    torch.testing.assert_close(
        output_loss(*rows, labels.flatten()[chosen]), output_loss(student, teacher, labels)
    )


def test_nothing_labelled_gives_zero_and_a_gradient():
    student = randn(1, B, T, V).requires_grad_()
    labels = torch.full((B, T), -100)
    for loss in (
        mlm_loss(student, labels),
        output_loss(student, randn(2, B, T, V), labels),
        mlm_loss(student[:, :0], labels[:, :0]),
    ):
        assert loss.item() == 0
        loss.backward()
    assert (student.grad == 0).all()


def test_gradients_against_finite_differences(mask):
    teacher, labels = randn(2, B, T, V), torch.arange(B * T).view(B, T) % V
    labels[0, 0] = -100
    assert torch.autograd.gradcheck(
        lambda x: output_loss(x, teacher, labels, 2.0), randn(1, B, T, V).requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda x: mlm_loss(x, labels), randn(1, B, T, V).requires_grad_()
    )
    states = randn(3, B, T, D)
    assert torch.autograd.gradcheck(
        lambda x: hidden_loss(x, states, mask), randn(4, B, T, D).requires_grad_()
    )
    scores = randn(5, B, HEADS, T, T).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: attention_loss(x.softmax(-1), maps(6, mask), mask, "row"), scores
    )


@pytest.mark.parametrize("reduction", ["row", "published"])
def test_exact_zeros_in_a_map(reduction, mask):
    student, teacher = maps(1, mask), maps(2, mask)
    student[..., 0], teacher[..., 1] = 0, 0
    student.requires_grad_()
    loss = attention_loss(student, teacher, mask, reduction)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_half_precision_is_computed_in_fp32(mask):
    student, teacher = maps(1, mask), maps(2, mask)
    states, logits = (randn(3, B, T, D), randn(4, B, T, D)), (randn(5, B, T, V), randn(6, B, T, V))
    labels = torch.arange(B * T).view(B, T) % V
    for loss, tensors in [
        (lambda s, t: attention_loss(s, t, mask, "row"), (student, teacher)),
        (lambda s, t: hidden_loss(s, t, mask), states),
        (lambda s, t: output_loss(s, t, labels), logits),
        (lambda s, t: mlm_loss(s, labels), logits),
    ]:
        rounded = [x.bfloat16() for x in tensors]
        half = loss(*rounded)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, loss(*(x.float() for x in rounded)))
        torch.testing.assert_close(half.double(), loss(*tensors), rtol=0.02, atol=0.002)


def test_bad_input_names_the_fix():
    with pytest.raises(ValueError, match="same number of heads"):
        attention_loss(maps(1)[:, :1], maps(2))
    with pytest.raises(ValueError, match="choose one of published, row"):
        attention_loss(maps(1), maps(2), reduction="mean")
    with pytest.raises(ValueError, match="same hidden size"):
        hidden_loss(randn(1, B, T, D), randn(2, B, T, D + 1))
    with pytest.raises(ValueError, match="temperature must be positive"):
        output_loss(randn(1, B, T, V), randn(2, B, T, V), torch.zeros(B, T, dtype=torch.long), 0)


def test_relation_loss_by_hand(mask):
    """Different sizes of student and teacher; which tokens' vectors are alike, head by head."""
    student, teacher = randn(1, B, T, D), randn(2, B, T, 2 * D)
    total = 0.0
    for b in range(B):
        length = LENGTHS[b]
        for head in range(HEADS):
            logs = []
            for x, size in ((student, D // HEADS), (teacher, 2 * D // HEADS)):
                part = x[b, :length, head * size : (head + 1) * size]
                logs.append((part @ part.T / math.sqrt(size)).log_softmax(-1))
            ours, theirs = logs
            total += (theirs.exp() * (theirs - ours)).sum().item()
    by_hand = total / (HEADS * sum(LENGTHS))
    assert relation_loss(student, teacher, mask, HEADS).item() == pytest.approx(by_hand, rel=1e-6)
    assert relation_loss(student, student, mask, HEADS).item() == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="3 relation heads do not divide"):
        relation_loss(student, teacher, mask, 3)
