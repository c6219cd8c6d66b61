"""Every metric against loops that say plainly what it is, on small random sets with ties."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from sf2cli.evaluation.verification import SortedScores, auc, eer, roc, tar_at_far

CASES = range(40)


def random_pairs(seed):
    """Scores on a coarse grid (ties inside and between the kinds) and truths; both kinds occur."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 40))
    issame = generator.random(n) < generator.choice([0.2, 0.5, 0.8])
    issame[:2] = True, False
    steps = int(generator.choice([1, 3, 10, 1000]))
    scores = generator.integers(0, steps + 1, n) / steps + 0.3 * issame * generator.integers(0, 2)
    kind = np.float32 if seed % 2 else np.float64
    return scores.astype(kind), issame


def split(scores, issame):
    genuine = [float(s) for s, same in zip(scores, issame, strict=True) if same]
    impostor = [float(s) for s, same in zip(scores, issame, strict=True) if not same]
    return genuine, impostor


def rates(genuine, impostor, threshold):
    """FAR and TAR at a threshold, as exact fractions."""
    far = Fraction(sum(s >= threshold for s in impostor), len(impostor))
    tar = Fraction(sum(s >= threshold for s in genuine), len(genuine))
    return far, tar


def plain_roc(genuine, impostor):
    """(threshold, FAR, TAR) from the strictest threshold, which accepts none, down."""
    thresholds = [np.inf, *sorted(set(genuine + impostor), reverse=True)]
    return [(t, *rates(genuine, impostor, t)) for t in thresholds]


@pytest.mark.parametrize("seed", CASES)
def test_roc(seed):
    scores, issame = random_pairs(seed)
    curve = roc(SortedScores.of(scores, issame))
    expected = plain_roc(*split(scores, issame))
    np.testing.assert_array_equal(curve.thresholds, [t for t, _, _ in expected])
    np.testing.assert_array_equal(curve.far, [float(far) for _, far, _ in expected])
    np.testing.assert_array_equal(curve.tar, [float(tar) for _, _, tar in expected])


@pytest.mark.parametrize("seed", CASES)
def test_eer(seed):
    scores, issame = random_pairs(seed)
    found = eer(SortedScores.of(scores, issame))
    curve = [(far, 1 - tar, t) for t, far, tar in plain_roc(*split(scores, issame))]
    for (far0, frr0, _), (far1, frr1, threshold) in pairwise(curve):
        if far1 >= frr1:
            weight = (frr0 - far0) / ((frr0 - far0) + (far1 - frr1))
            assert found.rate == pytest.approx(float(far0 + weight * (far1 - far0)), abs=1e-12)
            assert found.threshold == threshold
            return
    pytest.fail("the ROC ends at FAR = 1 and FRR = 0, so they must have met")


@pytest.mark.parametrize("seed", CASES)
def test_auc(seed):
    scores, issame = random_pairs(seed)
    genuine, impostor = split(scores, issame)
    wins = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor)
    assert auc(SortedScores.of(scores, issame)) == pytest.approx(
        wins / (len(genuine) * len(impostor)), abs=1e-12
    )


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("far", [1, 0.5, 0.3, 0.1, 0.07, 0.001])
def test_tar_at_far(seed, far):
    scores, issame = random_pairs(seed)
    genuine, impostor = split(scores, issame)
    found = tar_at_far(SortedScores.of(scores, issame), far)
    target = Fraction(str(far))
    assert found.impostors == len(impostor)
    if target * len(impostor) < 1:
        assert (found.tar, found.threshold, found.accepted_impostors) == (None, None, None)
        return
    allowed = [tar for _, reached, tar in plain_roc(genuine, impostor) if reached <= target]
    assert found.tar == pytest.approx(float(max(allowed)), abs=1e-12)
    # The threshold does what the numbers say.
    assert rates(genuine, impostor, found.threshold) == (
        Fraction(found.accepted_impostors, len(impostor)),
        max(allowed),
    )
    assert found.accepted_impostors <= target * len(impostor)


def test_far_at_a_share_that_floats_cannot_hold():
    """0.29 * 100 is 28.999999999999996 in floats, and yet 29 false accepts are allowed."""
    scores = np.concatenate([np.arange(100), [70.5]])
    assert tar_at_far(SortedScores.of(scores, np.arange(101) == 100), 0.29).accepted_impostors == 29


def test_thinned_roc_has_exact_points_and_keeps_its_ends():
    generator = np.random.default_rng(0)
    issame = generator.random(20_000) < 0.3
    scores = generator.normal(size=20_000) + issame
    pairs = SortedScores.of(scores, issame)
    thin, full = roc(pairs, max_points=200), roc(pairs, max_points=20_000)
    assert len(thin.far) <= 402 < len(full.far)
    points = set(zip(full.far, full.tar, full.thresholds, strict=True))
    assert points.issuperset(zip(thin.far, thin.tar, thin.thresholds, strict=True))
    assert (thin.far[0], thin.tar[0], thin.far[-1], thin.tar[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("scores", "issame", "message"),
    [
        ([0.1, 0.2], [True, True], "no impostor pair"),
        ([0.1, 0.2], [False, False], "no genuine pair"),
        ([0.1, np.nan], [True, False], "NaN"),
        ([0.1], [True, False], "do not fit"),
        ([[0.1], [0.2]], [[True], [False]], "do not fit"),
    ],
)
def test_unsound_scores_are_refused(scores, issame, message):
    with pytest.raises(ValueError, match=message):
        SortedScores.of(scores, issame)


@pytest.mark.parametrize("far", [0, -0.1, 1.5, float("nan")])
def test_far_targets_outside_0_to_1_are_refused(far):
    with pytest.raises(ValueError, match="far: found"):
        tar_at_far(SortedScores.of([0.1, 0.2], [True, False]), far)
