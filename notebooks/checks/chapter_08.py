"""Checks of the exercises of chapter 08."""

import numpy as np
from scipy.special import softmax

from minialbert.lab import exercises


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
