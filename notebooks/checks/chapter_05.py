"""Checks of the exercises of chapter 05."""

import torch

from minialbert import losses
from minialbert.lab import exercises


@exercises.check("output loss at a temperature")
def check_output_loss(answer):
    student, teacher = 3 * torch.randn(2, 5, 40)
    labels = torch.arange(5)
    for tau in (1.0, 2.0, 4.0):
        got, wanted = (
            answer(student, teacher, tau),
            losses.output_loss(student, teacher, labels, tau),
        )
        backwards = losses.output_loss(teacher, student, labels, tau)
        assert not torch.isclose(got, backwards), (
            "this is KL(student || teacher): the teacher comes first"
        )
        ratio = (wanted / got).item()
        assert abs(ratio - 1) < 1e-3, (
            f"at temperature {tau:g} your loss should be {ratio:.2f} times as large"
        )


@exercises.check("hidden loss without padding")
def check_hidden_loss(answer):
    ours, theirs = torch.randn(2, 2, 6, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    wanted = losses.hidden_loss(ours, theirs, mask)
    noisy = ours + 9 * (1 - mask[..., None])
    got, moved = answer(ours, theirs, mask), answer(noisy, theirs, mask)
    assert torch.isclose(got, moved), (
        "new states at the padding change your loss: it must not see them"
    )
    ratio = (got / wanted).item()
    assert abs(ratio - 1) < 1e-3, (
        f"your loss is {ratio:.2f} times the right one: divide by the real tokens"
    )
