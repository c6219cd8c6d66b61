"""The peers' conventions against plain loops over the ROC that scikit-learn defines."""

import numpy as np
import pytest

from sf2cli.evaluation.conventions import corners, single_threshold, tars_at_fars
from sf2cli.evaluation.verification import SortedScores, tar_at_far
from tests.evaluation.test_verification import random_pairs, split

FARS = (0.5, 0.3, 0.1, 0.03)


def plain_corners(genuine, impostor):
    """(false accepts, accepts) at each distinct score, without points whose steps are alike."""
    points = [
        (sum(s >= t for s in impostor), sum(s >= t for s in genuine))
        for t in sorted(set(genuine + impostor), reverse=True)
    ]
    kept = [(0, 0)]
    for k, point in enumerate(points):
        if 0 < k < len(points) - 1:
            (a, b), (c, d), (e, f) = points[k - 1 : k + 2]
            if (c - a, d - b) == (e - c, f - d):
                continue
        kept.append(point)
    return kept


@pytest.mark.parametrize("seed", range(40))
def test_corners(seed):
    scores, issame = random_pairs(seed)
    found = corners(SortedScores.of(scores, issame))
    assert list(zip(found.false_accepts, found.accepts, strict=True)) == plain_corners(
        *split(scores, issame)
    )


@pytest.mark.parametrize("seed", range(40))
def test_insightface_takes_the_nearest_far(seed):
    scores, issame = random_pairs(seed)
    genuine, impostor = split(scores, issame)
    found = tars_at_fars(SortedScores.of(scores, issame), FARS, "insightface")
    for far, entry in zip(FARS, found, strict=True):
        if far * len(impostor) < 1:
            assert entry.tar is None
            continue
        points = plain_corners(genuine, impostor)[::-1]
        distances = [abs(false / len(impostor) - far) for false, _ in points]
        false, right = points[distances.index(min(distances))]
        assert (entry.tar, entry.accepted_impostors) == (right / len(genuine), false)


@pytest.mark.parametrize("seed", range(40))
def test_opensphere_interpolates(seed):
    scores, issame = random_pairs(seed)
    genuine, impostor = split(scores, issame)
    found = tars_at_fars(SortedScores.of(scores, issame), FARS, "opensphere")
    points = plain_corners(genuine, impostor)
    fpr = [false / len(impostor) for false, _ in points]
    tpr = [right / len(genuine) for _, right in points]
    for far, entry in zip(FARS, found, strict=True):
        if far * len(impostor) < 1:
            assert entry.tar is None
            continue
        k = max(i for i in range(len(fpr)) if fpr[i] <= far)
        expected = tpr[k]
        if k + 1 < len(fpr):
            expected += (far - fpr[k]) / (fpr[k + 1] - fpr[k]) * (tpr[k + 1] - tpr[k])
        assert entry.tar == pytest.approx(expected, abs=1e-12)
        assert entry.threshold is None


def test_sf2_is_tar_at_far():
    scores = SortedScores.of(*random_pairs(3))
    assert tars_at_fars(scores, FARS, "sf2") == tuple(tar_at_far(scores, far) for far in FARS)


@pytest.mark.parametrize("seed", range(40))
def test_single_threshold(seed):
    scores, issame = random_pairs(seed)
    found = single_threshold(SortedScores.of(scores, issame))
    best = max(
        sum((s >= t) == same for s, same in zip(scores, issame, strict=True))
        for t in [np.inf, *scores]
    )
    assert found.accuracy == best / len(scores)
    threshold = np.inf if found.threshold is None else found.threshold
    assert ((scores >= threshold) == issame).mean() == found.accuracy
