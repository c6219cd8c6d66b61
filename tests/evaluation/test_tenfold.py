"""Accuracy over ten folds: the reference's numbers, and a plain reading of the protocol."""

from pathlib import Path

import numpy as np
import pytest

from sf2cli.evaluation.scoring import listed_cosines
from sf2cli.evaluation.tenfold import contiguous_folds, stratified_folds, tenfold_accuracy

GOLDEN = Path(__file__).parents[1] / "golden" / "verification_10fold.npz"


def test_golden_run_is_reproduced():
    golden = np.load(GOLDEN)
    rows = np.arange(len(golden["embeddings"]))
    cosines = listed_cosines(golden["embeddings"], rows[0::2], rows[1::2])
    found = tenfold_accuracy(2 - 2 * cosines, golden["issame"])
    for name, value in (
        ("accuracy_per_fold", found.accuracy_per_fold),
        ("accuracy_mean", found.mean),
        ("accuracy_std", found.std),
        ("tpr", found.tpr),
        ("fpr", found.fpr),
    ):
        assert np.shape(value) == golden[name].shape
        np.testing.assert_allclose(value, golden[name], rtol=0, atol=1e-12, err_msg=name)


def plain_accuracy(distances, issame, folds, thresholds):
    """Per fold: the smallest threshold that is right most often on the others, judged on it."""
    accuracies = []
    for fold in range(10):
        best, best_right = None, -1
        for threshold in thresholds:
            right = sum(
                (d < threshold) == same
                for d, same, f in zip(distances, issame, folds, strict=True)
                if f != fold
            )
            if right > best_right:
                best, best_right = threshold, right
        judged = [
            (d < best) == same
            for d, same, f in zip(distances, issame, folds, strict=True)
            if f == fold
        ]
        accuracies.append(sum(judged) / len(judged))
    return accuracies


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("drawn", [False, True])
def test_agrees_with_a_plain_reading_on_ties(seed, drawn):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(10, 45))
    issame = generator.random(n) < 0.5
    # On the grid of thresholds, so that distances equal to one are met.
    distances = generator.integers(0, 12, n) / 4 - 0.4 * issame
    thresholds = np.arange(0, 4, 0.25)
    folds = stratified_folds(issame, seed) if drawn else contiguous_folds(n)
    found = tenfold_accuracy(distances, issame, thresholds, folds)
    expected = plain_accuracy(distances, issame, folds, thresholds)
    np.testing.assert_allclose(found.accuracy_per_fold, expected, rtol=0, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.std == pytest.approx(np.std(expected), abs=1e-12)


def test_contiguous_folds_are_runs_of_the_list():
    assert contiguous_folds(23).tolist() == sorted([*range(10)] * 2 + [0, 1, 2])


@pytest.mark.parametrize(("genuine", "impostor"), [(450, 4500), (7, 31), (10, 3)])
def test_drawn_folds_spread_both_kinds_and_repeat(genuine, impostor):
    issame = np.arange(genuine + impostor) < genuine
    folds = stratified_folds(issame)
    for chosen in (np.ones_like(issame), issame, ~issame):
        sizes = np.bincount(folds[chosen], minlength=10)
        assert sizes.max() - sizes.min() <= 1
    assert (folds == stratified_folds(issame)).all()
    assert not (folds == stratified_folds(issame, seed=1)).all()


def test_what_does_not_fit_is_refused():
    ten = np.zeros(10)
    with pytest.raises(ValueError, match="10 folds need as many pairs, found 9"):
        tenfold_accuracy(ten[:9], ten[:9] > 0)
    with pytest.raises(ValueError, match="do not fit"):
        tenfold_accuracy(ten, ten[:9] > 0)
    with pytest.raises(ValueError, match="a fold is empty"):
        tenfold_accuracy(ten, ten > 0, folds=np.zeros(10, np.int8))
