"""Checks of the exercises of chapter 05, and the toy of the third."""

import torch
from torch.nn import functional as F

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


WIDTH, VISITS, LAYERS, CALLS = 16, 3, 6, 20
TEACHERS = (1, 2, 3, 4)  # seeds of those that the answer is tried on; it may try 0
STRENGTHS = (1, 1, 1, 1, 0.05, 0.05)  # how far each layer of the toy's teacher moves the states


def _normal(generator, *shape):
    return torch.randn(*shape, generator=generator)


def _teacher(x, seed):
    """States (n, 16) after each of six layers, which resemble each other."""
    generator, states = torch.Generator().manual_seed(seed), []
    common = _normal(generator, WIDTH, WIDTH) / WIDTH**0.5
    for strength in STRENGTHS:
        own = _normal(generator, WIDTH, WIDTH) / WIDTH**0.5
        x = x + strength * torch.tanh(2 * x @ (0.98 * common + 0.2 * own))
        x = F.layer_norm(x, (WIDTH,))
        states.append(x)
    return states


def _student(weights, x):
    """States (n, 16) after each of three visits to one block."""
    states = []
    for own in weights["own"]:
        x = F.layer_norm(x + own, (WIDTH,))
        x = F.layer_norm(x + torch.tanh(x @ weights["in"]) @ weights["out"], (WIDTH,))
        states.append(x)
    return states


def _trained_distance(layers, weights, seed):
    """Hidden loss of the last visit and layer on new inputs, after a training of 150 steps."""
    generator = torch.Generator().manual_seed(seed)
    block = {
        "own": torch.zeros(VISITS, WIDTH),
        "in": _normal(generator, WIDTH, 48) / WIDTH**0.5,
        "out": 0.05 * _normal(generator, 48, WIDTH),
    }
    optimiser = torch.optim.Adam([x.requires_grad_() for x in block.values()], lr=2e-2)
    seen, new = _normal(generator, 32, WIDTH), _normal(generator, 512, WIDTH)
    targets = [_teacher(seen, seed)[layer - 1] for layer in layers]
    for _ in range(150):
        optimiser.zero_grad()
        found = zip(_student(block, seen), targets, weights, strict=True)
        sum(weight * losses.hidden_loss(x, y) for x, y, weight in found).backward()
        optimiser.step()
    with torch.no_grad():
        return losses.hidden_loss(_student(block, new)[-1], _teacher(new, seed)[-1]).item()


def _as_asked(layers, weights):
    right = len(layers) == len(weights) == VISITS and all(1 <= n <= LAYERS for n in layers)
    assert right, "give three layers from 1 to 6 and three weights"


@exercises.check("a better layer map")
def check_better_map(answer):
    calls = 0

    def distance(layers, weights):
        nonlocal calls
        calls += 1
        assert calls <= CALLS, f"{CALLS} calls of `distance` are allowed"
        _as_asked(layers, weights)
        return _trained_distance(layers, weights, seed=0)

    layers, weights = answer(distance)
    _as_asked(layers, weights)
    reached, baseline = (
        sum(_trained_distance(*choice, seed) for seed in TEACHERS) / len(TEACHERS)
        for choice in ((layers, weights), ((2, 4, 6), (1, 1, 1)))
    )
    score = f"on new teachers {reached:.2f}; the default map {baseline:.2f}"
    assert reached < 0.9 * baseline, f"{score}, a tenth less is enough"
    return score
