"""Intervals against whole sums of binomial chances, and a bootstrap that loops."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from sf2cli.evaluation.intervals import binomial_interval, bootstrap_tar, incomplete_beta


def at_least(hits, trials, share):
    """P(X >= hits) as an exact fraction of the float `share`."""
    p = Fraction(share)
    return sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits, trials + 1))


@pytest.mark.parametrize(
    ("hits", "trials"), [(1, 1), (1, 3), (3, 7), (10, 10), (17, 40), (99, 100)]
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.97])
def test_incomplete_beta_is_a_binomial_tail(hits, trials, share):
    expected = float(at_least(hits, trials, share))
    assert incomplete_beta(share, hits, trials - hits + 1) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (45, 60)])
def test_binomial_interval_leaves_a_fortieth_on_either_side(hits, trials):
    found = binomial_interval(hits, trials)
    if hits:
        assert float(at_least(hits, trials, found.low)) == pytest.approx(0.025, rel=1e-9)
    else:
        assert found.low == 0
    if hits < trials:
        fewer = 1 - float(at_least(hits + 1, trials, found.high))
        assert fewer == pytest.approx(0.025, rel=1e-9)
    else:
        assert found.high == 1


def test_binomial_interval_of_a_benchmark_narrows_around_the_share():
    found = binomial_interval(18_846, 19_557)
    assert found.low < 18_846 / 19_557 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.001338, rel=0.02)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts_are_refused(hits, trials):
    with pytest.raises(ValueError, match=f"{hits} hits in {trials} trials"):
        binomial_interval(hits, trials)


def plain_bootstrap(scores, first, second, far, seed, replicates):
    generator = np.random.Generator(np.random.PCG64(seed))
    n = max(first.max(), second.max()) + 1
    tars = []
    while len(tars) < replicates:
        drawn = np.bincount(generator.integers(0, n, n), minlength=n)
        genuine, impostor = [], []
        for s, a, b in zip(scores, first, second, strict=True):
            if a == b:
                genuine += [s] * drawn[a]
            else:
                impostor += [s] * (drawn[a] * drawn[b])
        if not genuine or not impostor:
            continue
        best = 0.0
        for threshold in sorted(set(genuine + impostor)):
            if sum(s >= threshold for s in impostor) <= far * len(impostor) + 1e-9:
                best = max(best, sum(s >= threshold for s in genuine) / len(genuine))
        tars.append(best)
    return np.percentile(tars, [2.5, 97.5])


@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_is_what_the_loop_draws(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, 12)
    labels[:4] = 0, 0, 1, 1
    i, j = np.triu_indices(12, 1)
    first, second = labels[i], labels[j]
    scores = generator.integers(0, 8, len(i)) / 8 + 0.5 * (first == second)
    fars = (0.3, 0.05)
    found = bootstrap_tar(scores, first, second, fars, seed=seed, replicates=20)
    for interval, far in zip(found, fars, strict=True):
        expected = plain_bootstrap(scores, first, second, far, seed, 20)
        np.testing.assert_allclose([interval.low, interval.high], expected, atol=1e-12)
        assert interval.method == "bootstrap"
