"""Checks of the exercises of chapter 15."""

from functools import partial

import torch

from minialbert.early_exit import Confidence
from minialbert.lab import exercises

VISITS, LOST = 6, 0.005  # of the toy; half a point may be lost


@exercises.check("how much is saved")
def check_speed_up(answer):
    cases = {((3, 3, 3), 3): 1.0, ((1, 3), 3): 1.5, ((1, 2, 3, 6), 6): 2.0, ((1, 1), 4): 4.0}
    for (visits, K), wanted in cases.items():
        got = answer(list(visits), K)
        assert abs(got - wanted) < 1e-6, (
            f"visits {list(visits)} of {K}: {sum(visits)} are made in place of "
            f"{len(visits) * K}, {wanted:.2f} times fewer, not {got:.2f}"
        )


@exercises.check("how unsure is an answer")
def check_entropy(answer):
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [2.0, 2.0, -9.0], [-5.0, -5.0, -5.0]])
    named = ("an answer that knows nothing", "a sure answer", "two classes alike", "no class liked")
    p = logits.softmax(-1)
    entropies = -(p * p.log()).sum(-1)
    for most in (0.1, 0.7, 1.0, 1.2):
        got = torch.as_tensor(answer(logits.clone(), most))
        assert got.shape == (4,) and got.dtype == torch.bool, "give a bool for each row of logits"
        for name, own, wanted in zip(named, got, entropies <= most, strict=True):
            entropy = entropies[named.index(name)]
            assert own == wanted, (
                f"{name} has an entropy of {entropy:.2f} nats, which is {'' if wanted else 'not '}"
                f"at most {most}: are these probabilities?"
            )


def world(texts=6000):
    """A toy student's logits (VISITS, N, 2) and the labels (N,): hard texts need visits, and early
    answers are surer than they should be."""
    draw = torch.Generator().manual_seed(15)
    labels = torch.randint(2, (texts,), generator=draw)
    hardness = torch.rand(texts, generator=draw) ** 2 * 6
    visits = torch.arange(1, VISITS + 1)[:, None]
    signal = 2.6 * (1 - torch.exp(-visits / (0.3 + hardness)))
    noise = torch.randn(VISITS, texts, generator=draw).cumsum(0) / visits**0.5
    boast = 1 + 3 / visits**1.5  # how much surer than it should be
    margin = boast * (signal * (2 * labels - 1) + noise)
    return torch.stack([-margin / 2, margin / 2], -1), labels


def cost_and_score(is_ready, answers, labels):
    """(visits made of all, accuracy) if texts leave as soon as `is_ready`."""
    visits = torch.full_like(labels, VISITS)
    for k in range(VISITS - 1, 0, -1):
        visits[is_ready(list(answers[:k]))] = k
    said = answers[visits - 1, torch.arange(len(labels))].argmax(-1)
    return visits.float().mean().item() / VISITS, (said == labels).float().mean().item()


def baseline(answers, labels, least):
    """The smallest cost that one threshold for all visits reaches at that accuracy."""
    costs = [1.0]
    for threshold in torch.linspace(0.5, 0.999, 60).tolist():
        rule = partial(Confidence(threshold).is_ready, kind="classification", tokens=None)
        found = cost_and_score(rule, answers, labels)
        costs.append(found[0] if found[1] >= least else 1.0)
    return min(costs)


@exercises.check("a better rule")
def check_rule(answer):
    answers, labels = world()
    full = (answers[-1].argmax(-1) == labels).float().mean().item()
    cost, accuracy = cost_and_score(answer, answers, labels)
    best = baseline(answers, labels, full - LOST)
    told = f"{cost:.3f} of the visits, accuracy {accuracy:.3f}"
    assert accuracy >= full - LOST, f"{told}; {full - LOST:.3f} is the least, all visits {full:.3f}"
    assert cost < 0.97 * best, (
        f"{told}; one threshold needs {best:.3f}, get below {0.97 * best:.3f}"
    )
    return told
