"""Checks of the exercises of chapter 08."""

import time

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from minialbert.lab import exercises


@exercises.check("a distance with a ceiling")
def check_js(answer):
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3, 4))
    got = np.asarray(answer(p, q))
    assert got.shape == (3, 4), (
        f"maps of shape {p.shape} hold {3 * 4} rows, so return shape (3, 4), not {got.shape}"
    )
    back = np.asarray(answer(q, p))
    assert np.allclose(got, back), (
        f"js(p, q) is {got[0, 0]:.3f} but js(q, p) is {back[0, 0]:.3f}: "
        "measure both against their mean"
    )
    wanted = jensenshannon(p, q, axis=-1) ** 2
    assert np.allclose(got, wanted), (
        f"a row gives {got[0, 0]:.3f} instead of {wanted[0, 0]:.3f}: half of each KL, natural log"
    )
    apart = float(answer(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    assert np.isclose(apart, np.log(2)), (
        f"rows without a common token give {apart:.3f}, not ln 2 = 0.693: 0 log 0 counts as 0"
    )


@exercises.check("take the special tokens away")
def check_words_alone(answer):
    special = np.array([True, False, False, False, False, True])
    scores = 4 * np.random.default_rng(0).random((2, 3, 6, 6))
    scores[..., special] += 2  # most attention rests on them
    words = np.flatnonzero(~special)
    got = np.asarray(answer(softmax(scores, axis=-1), special))
    rows, columns = got.shape[-2:]
    assert rows == columns == len(words), (
        f"{len(words)} words make maps of {len(words)} x {len(words)}, yours are {rows} x "
        f"{columns}: drop the special tokens' rows and their columns"
    )
    sums = got.sum(-1)
    assert np.allclose(sums, 1, atol=1e-6), (
        f"a row sums to {sums.min():.2f}, not 1: what went to special tokens is missing, "
        "divide by what is left"
    )
    wanted = softmax(scores[..., words[:, None], words], axis=-1)  # special keys never existed
    assert np.allclose(got, wanted, atol=1e-6), (
        "rows sum to 1, but are not the words' own: are rows and columns both of words?"
    )


def toy_heads(seed=4, heads=10, sentences=12):
    """Two models whose heads have other numbers: lists of (N_h, T, T) maps, student and teacher.

    The teacher's heads prefer a distance and the first token, more or less; the student's are
    those in another order, blurred and mixed with their like.
    """
    draw = np.random.default_rng(seed)
    shifts, sharpness = draw.choice([-1, 0, 1], heads), draw.uniform(0.5, 2.5, heads)
    rest, order = draw.uniform(0, 2, heads), draw.permutation(heads)
    students, teachers = [], []
    for _ in range(sentences):
        places = np.arange(draw.integers(6, 12))
        off = np.abs(places - places[:, None] - shifts[:, None, None])
        scores = -sharpness[:, None, None] * off + draw.normal(0, 0.7, off.shape)
        scores[..., 0] += rest[:, None]
        blurred = 0.6 * scores[order] + draw.normal(0, 0.7, off.shape)
        teachers.append(softmax(scores, -1))
        students.append(softmax(blurred, -1))
    return students, teachers


def distances(students, teachers):
    """The mean JS of each student head with each teacher head: (N_h, N_h), in nats."""
    each = [
        jensenshannon(ours[:, None], theirs[None], axis=-1) ** 2
        for ours, theirs in zip(students, teachers)
    ]
    return np.mean([one.mean(-1) for one in each], axis=0)


def greedy(table):
    """The closest pair of heads first, then the closest of those left, and so on."""
    matched = np.empty(len(table), dtype=int)
    left = table.copy()
    for _ in table:
        ours, theirs = np.unravel_index(left.argmin(), left.shape)
        matched[ours] = theirs
        left[ours], left[:, theirs] = np.inf, np.inf
    return matched


def matching_scores(answer) -> dict:
    """Mean JS of the matched heads on sentences the matching has not seen; less is better."""
    students, teachers = toy_heads()
    shown, judged = slice(3), slice(3, None)
    began = time.perf_counter()
    matched = np.asarray(answer(students[shown], teachers[shown]))
    seconds = time.perf_counter() - began
    heads = len(teachers[0])
    assert sorted(matched.tolist()) == list(range(heads)), (
        f"each of the teacher's heads 0..{heads - 1} must be used once, yours are {matched}"
    )
    assert seconds < 1, f"{seconds:.1f} seconds; the budget is one"
    table = distances(students[judged], teachers[judged])
    first = greedy(distances(students[shown], teachers[shown]))
    named = {"by number": np.arange(heads), "closest pair first": first, "yours": matched}
    return {name: float(table[np.arange(heads), order].mean()) for name, order in named.items()}


@exercises.check("match the heads")
def check_match_heads(answer):
    scores = matching_scores(answer)
    said = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
    said = f"mean JS on new sentences: {said}"
    assert scores["yours"] < scores["closest pair first"] - 1e-6, f"{said}: beat the second"
    return said
