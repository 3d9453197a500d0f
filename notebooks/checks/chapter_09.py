"""Checks of the exercises of chapter 09."""

import numpy as np
from scipy.stats import spearmanr

from minialbert.lab import exercises


@exercises.check("Spearman from Pearson")
def check_spearman(answer):
    people = np.array([0.0, 1.0, 3.0, 5.0])
    bent = np.array([0.00, 0.01, 0.02, 1.00])
    got = answer(bent, people)
    assert np.isclose(got, 1), (
        f"an answer in the right order gets {got:.2f}, not 1: are both sides ranked?"
    )
    got = answer(-bent, people)
    assert np.isclose(got, -1), f"an answer in the opposite order gets {got:.2f}, not -1"
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 6, 40).astype(float)  # many are equal
    predicted = truth + draw.normal(size=40)
    wanted, got = spearmanr(predicted, truth).statistic, answer(predicted, truth)
    assert np.isclose(got, wanted), (
        f"of 40 pairs, some equal, scipy has {wanted:.3f} and you have {got:.3f}: equal values "
        "share the mean of their ranks"
    )


@exercises.check("a paired interval")
def check_paired_interval(answer):
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, 500)
    hard = draw.random(500) < 0.2  # both err on these
    first = np.where(hard, 1 - truth, truth)
    second = np.where(hard | (draw.random(500) < 0.05), 1 - truth, truth)
    samples = draw.integers(500, size=(400, 500))
    low, high = answer(truth, first, second, samples)
    differences = (first == truth)[samples].mean(1) - (second == truth)[samples].mean(1)
    wanted = np.quantile(differences, [0.025, 0.975])
    said = f"your interval is {low:.3f} to {high:.3f}, it should be {wanted[0]:.3f} to "
    said += f"{wanted[1]:.3f}: "
    assert high > low, said + "low comes first"
    assert np.sum(high - low) < 1.5 * np.ptp(wanted), (
        said + "both are scored on the same rows, so subtract on each sample, before the quantiles"
    )
    assert np.allclose([low, high], wanted), said + "which side is subtracted, which quantiles?"
