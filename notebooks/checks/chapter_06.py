"""Checks of the exercises of chapter 06."""

import numpy as np
import torch

from minialbert.lab import exercises


@exercises.check("where windows start")
def check_starts(answer):
    for length, window, overlap in ((3220, 256, 128), (254, 256, 128), (1000, 64, 16), (90, 12, 0)):
        got, body = [int(start) for start in answer(length, window, overlap)], window - 2
        case = f"{length} pieces, window {window}, overlap {overlap}"
        assert got and got[0] == 0, f"{case}: the first window starts at 0"
        for start, following in zip(got, got[1:]):
            shared = start + body - following
            why = f"neighbours share {shared}; [CLS] and [SEP] take two places"
            assert shared == overlap, f"{case}: {why}"
        end = got[-1] + body
        assert end <= length, f"{case}: the last window would end at {end}, beyond the text"
        left = length - end
        assert left < body - overlap, f"{case}: one more window fits; may the last end at the end?"


def global_states():
    """What the generators that everybody shares would give next."""
    return np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()


@exercises.check("dice without a memory")
def check_dice(answer):
    first = np.array(answer(1, 0, 7, 1000))
    right = first.shape == (1000,) and 0 <= first.min() and first.max() < 1
    assert right, "give `count` numbers in [0, 1)"
    np.random.random(3)  # somebody else draws
    torch.rand(3)
    again, before = answer(1, 0, 7, 1000), global_states()
    assert np.array_equal(first, again), "asked again, it gives other numbers: it has a memory"
    answer(2, 2, 2, 1000)
    assert before == global_states(), "it moves a global generator, which others use"
    for name, other in {"seed": (2, 0, 7), "epoch": (1, 1, 7), "example": (1, 0, 8)}.items():
        assert not np.allclose(first, answer(*other, 1000)), f"the same numbers for another {name}"
    mixed = np.allclose(answer(0, 1, 2, 9), answer(0, 2, 1, 9))
    assert not mixed, "epoch and example add up: keep them apart"


@exercises.check("fairer masks")
def check_fair_places(answer):
    def places(epochs, seed=1, count=60):
        """(epochs, 150, count): what is asked for in 150 windows."""
        asked = [[answer(seed, epoch, n, count) for n in range(150)] for epoch in epochs]
        return np.array(asked, dtype=bool)

    before = global_states()
    first, second = places(range(6)), places(range(6, 12))
    assert first.shape == (6, 150, 60), "give `count` booleans"
    assert before == global_states(), "it moves a global generator, which others use"
    assert np.array_equal(places([4])[0], first[4]), "asked again, it gives other places"
    for epoch, asked in enumerate([*first, *second]):
        share = asked.mean()
        assert 0.14 < share < 0.16, (
            f"epoch {epoch} asks for {share:.1%} of the tokens, not for 15 %"
        )
    rarest = np.concatenate([first, second]).mean((0, 1)).min()
    assert rarest > 0.1, f"one place of the windows is asked for in {rarest:.0%} of the cases"
    for name, other in (("seed", places(range(6), seed=2)), ("six epochs", second)):
        repeated = max((ours & theirs).sum() / ours.sum() for ours in first for theirs in other)
        assert repeated < 0.3, f"another {name}, and still {repeated:.0%} of a mask is the same"
    repeated = (first[0, 0] & first[0, 1:]).sum() / first[0, 0].sum() / 149
    assert repeated < 0.3, "all windows have the same mask"
    reached = first.any(0).mean()
    score = f"six epochs ask for {reached:.0%} of the tokens"
    assert reached > 0.8, f"{score}; 80 % pass"
    return score
