"""The paired bootstrap against plain counting: a weight is so many copies of a pair."""

import numpy as np
import pytest

from sf2cli.evaluation.kept_scores import KeptScores
from sf2cli.evaluation.paired import Ranked, paired_bootstrap
from sf2cli.evaluation.verification import SortedScores, auc, eer, tar_at_far

FARS = (0.1, 0.01, 0.001)


def all_pairs(identities, images, seed, spread=0.5, steps=None):
    """Scores of all pairs of images; `steps` rounds them, so that many are equal."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), images)
    first, second = np.triu_indices(len(labels), 1)
    issame = labels[first] == labels[second]
    scores = issame * 0.6 + generator.normal(0, spread, len(first))
    if steps:
        scores = np.round(scores * steps) / steps
    return KeptScores(scores, issame, labels[first], labels[second])


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_copies(seed, steps):
    kept = all_pairs(6, 5, seed, steps=steps)
    weights = np.random.default_rng(seed).integers(0, 4, len(kept.scores))
    copied = SortedScores.of(np.repeat(kept.scores, weights), np.repeat(kept.issame, weights))
    found = Ranked(kept).measure(weights.astype(np.float64), FARS)
    expected = [eer(copied).rate, auc(copied)]
    expected += [tar_at_far(copied, far).tar for far in FARS]
    np.testing.assert_allclose(found, [np.nan if x is None else x for x in expected], atol=1e-12)


def test_a_run_does_not_differ_from_itself():
    kept = all_pairs(8, 4, seed=1)
    [differences] = paired_bootstrap([kept, kept], FARS, "test").differences
    for found in differences[:3]:
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_better_run_is_told_from_noise_and_the_draws_are_of_identities():
    good, bad = (all_pairs(20, 4, seed, spread) for seed, spread in ((1, 0.25), (2, 0.6)))
    same = all_pairs(20, 4, 3, 0.6)
    found = paired_bootstrap([bad, good, same], FARS, "test")
    assert (found.drawn, found.replicates) == ("identities", 1000)
    better, equal = found.differences
    assert better[0].high < 0 < better[1].low
    assert equal[0].low < 0 < equal[0].high
    np.testing.assert_allclose(
        found.values[1, 0], eer(SortedScores.of(good.scores, good.issame)).rate
    )


def test_bracket_has_the_width_of_fresh_samples():
    """On independent pairs the bracket is that of the difference over new samples."""
    generator = np.random.default_rng(0)
    issame = np.arange(800) < 400

    def draw():
        shared = generator.normal(0, 0.5, 800)
        runs = [issame * gain + shared + generator.normal(0, 0.3, 800) for gain in (1.0, 1.2)]
        return [KeptScores(scores, issame, None, None) for scores in runs]

    found = paired_bootstrap(draw(), FARS, "test")
    assert found.drawn == "pairs"
    bracket = found.differences[0][0]
    fresh = []
    for _ in range(200):
        a, b = (eer(SortedScores.of(run.scores, run.issame)).rate for run in draw())
        fresh.append(b - a)
    width = np.percentile(fresh, 97.5) - np.percentile(fresh, 2.5)
    assert bracket.high - bracket.low == pytest.approx(width, rel=0.35)


def test_a_target_that_the_impostors_cannot_support_has_no_difference():
    kept = all_pairs(4, 3, seed=0)
    found = paired_bootstrap([kept, kept], FARS, "test")
    assert found.differences[0][-1] is None
    assert np.isnan(found.values[:, -1]).all()
