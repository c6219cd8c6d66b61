"""Impostors counted block by block against metrics on all scores, which have loops of their own."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation import counted
from sf2cli.evaluation.conventions import single_threshold
from sf2cli.evaluation.counted import count_all_pairs
from sf2cli.evaluation.verification import SortedScores, auc, eer, tar_at_far


def random_set(seed):
    """Rows whose products are exact in float32 and often equal, and labels in no order."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(4, 40))
    labels = generator.integers(0, int(generator.choice([2, 5, 12])), n)
    labels[:3] = 0, 0, 1
    centres = generator.integers(-1, 2, (labels.max() + 1, 6)) * generator.integers(0, 2)
    rows = (centres[labels] + generator.integers(-1, 2, (n, 6))) / 4
    return rows.astype(np.float32), labels


def everything(rows, labels):
    first, second = np.triu_indices(len(rows), 1)
    return SortedScores.of((rows @ rows.T)[first, second], labels[first] == labels[second])


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("edge", [3, 16, 4096])
def test_metrics_equal_those_of_all_scores(seed, edge, monkeypatch):
    monkeypatch.setattr(counted, "_EDGE", edge)
    rows, labels = random_set(seed)
    found, split = count_all_pairs(rows, labels, "test"), everything(rows, labels)
    assert found.impostors == len(split.impostor)
    np.testing.assert_array_equal(found.genuine, split.genuine)
    assert found.auc() == auc(split)
    assert found.eer()[0] == pytest.approx(eer(split).rate, abs=1e-12)
    assert found.best_accuracy()[0] == single_threshold(split).accuracy
    for far in (1, 0.5, 0.1, 0.03, 0.001):
        mine, theirs = found.tar_at_far(far), tar_at_far(split, far)
        assert (mine.tar, mine.impostors) == (theirs.tar, theirs.impostors)
        if mine.threshold is not None:
            # The threshold does what the numbers say.
            genuine, impostors = split.accepted(mine.threshold)
            assert (genuine / len(split.genuine), impostors) == (mine.tar, mine.accepted_impostors)
    for edge_at, above in zip(found.edges, found.above_edges, strict=True):
        assert above == (split.impostor >= edge_at).sum()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("part", [1, 50, 1 << 17])
def test_counter(seed, part, monkeypatch):
    """Also where most scores are near no threshold, at the ends, and just beside a threshold."""
    monkeypatch.setattr(counted, "_PART", part)
    generator = np.random.default_rng(seed)
    values = generator.uniform(-1, 1, 300).astype(np.float32)
    thresholds = np.concatenate([generator.choice(values, 10), np.float32([-1, 0, 1, 0.5])])
    beside = [np.nextafter(thresholds, np.float32(end)) for end in (-2, 2)]
    values = np.concatenate([values, thresholds, *beside]).astype(np.float32)
    at, above = counted.Counter(thresholds).count(values)
    assert at.tolist() == [(values >= t).sum() for t in thresholds]
    assert above.tolist() == [(values > t).sum() for t in thresholds]


def test_empty_kinds_are_refused():
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(Sf2Error, match="none of the 3 pairs is genuine"):
        count_all_pairs(rows, np.arange(3), "test")
    with pytest.raises(Sf2Error, match="none of the 3 pairs is impostor"):
        count_all_pairs(rows, np.zeros(3, int), "test")


def test_more_genuine_pairs_than_can_be_kept_are_refused(monkeypatch):
    monkeypatch.setattr(counted, "MAX_GENUINE", 2)
    with pytest.raises(Sf2Error, match="3 genuine pairs, of which 2 can be kept"):
        count_all_pairs(np.eye(4, dtype=np.float32), np.array([0, 0, 0, 1]), "test")


@pytest.mark.parametrize(("passing", "rate"), [(3, 0.5), (2, 4 / 9)])
def test_eer_of_counts_whose_product_exceeds_64_bits(passing, rate):
    genuine = np.repeat(np.float32([0.2, 0.8]), 20_000_000)
    impostors = 5 * 10**11
    found = counted.Counted(
        genuine,
        np.float32([0.2, 0.8]),
        np.array([4 * 10**11, 10**11]),
        np.array([passing * 10**11, 0]),
        impostors,
        np.float32([]),
        np.array([], np.int64),
    )
    # FAR and 1 - TAR go (.8, 0), (passing / 5, .5), (.2, .5), (0, 1).
    assert found.eer() == (pytest.approx(rate), pytest.approx(0.2))
