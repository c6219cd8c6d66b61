"""Verification accuracy by the 10-fold protocol of LFW, as InsightFace computes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 10
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TenFold:
    """`accuracy_per_fold` [10], their mean and (population) standard deviation; `tpr` and `fpr`
    [thresholds] are means over the folds."""

    accuracy_per_fold: NDArray[np.float64]
    mean: float
    std: float
    tpr: NDArray[np.float64]
    fpr: NDArray[np.float64]


def contiguous_folds(pairs: int) -> NDArray[np.int8]:
    """The reference's folds: runs of pairs in list order, the first ones longer by one."""
    return np.concatenate([np.full(len(part), k, np.int8) for k, part in enumerate(_split(pairs))])


def stratified_folds(issame: NDArray[np.bool_], seed: int = 0) -> NDArray[np.int8]:
    """Folds for pairs in an order that means something: drawn by `seed`, genuine shares alike.

    Args:
        issame: bool [n].
        seed: of numpy's PCG64.

    Returns:
        int8 [n], the fold of each pair; sizes differ by at most one.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    folds = np.empty(len(issame), np.int8)
    dealt = 0
    for kind in (True, False):
        count = int(np.count_nonzero(issame == kind))
        part = np.resize(np.roll(np.arange(FOLDS, dtype=np.int8), -dealt), count)
        generator.shuffle(part)
        folds[issame == kind] = part
        dealt = (dealt + count) % FOLDS
    return folds


def tenfold_accuracy(
    dist_sq: NDArray[np.floating],
    issame: NDArray[np.bool_],
    thresholds: NDArray[np.float64] | None = None,
    folds: NDArray[np.int8] | None = None,
) -> TenFold:
    """Accuracy on each fold at the threshold that is best on the nine others.

    A pair is called genuine when its squared distance is below the threshold; of equally good
    thresholds the smallest is taken. Rates of a kind of pairs that a fold lacks count as 0, as in
    the reference.

    Args:
        dist_sq: squared Euclidean distances of unit embeddings [n], n >= 10.
        issame: True for genuine pairs, bool [n].
        thresholds: ascending; 0, .01, ... 3.99 if None.
        folds: the fold 0 ... 9 of each pair [n], none empty; `contiguous_folds` if None.

    Raises:
        ValueError: fewer than 10 pairs, lengths that differ, or an empty fold.

    Source: InsightFace recognition/arcface_torch/eval/verification.py (calculate_roc).
    """
    steps = np.arange(0, 4, 0.01) if thresholds is None else thresholds
    n = len(dist_sq)
    if n < FOLDS:
        raise ValueError(f"{FOLDS} folds need as many pairs, found {n}")
    fold = contiguous_folds(n) if folds is None else folds
    if len(issame) != n or len(fold) != n:
        raise ValueError(f"{n} distances, {len(issame)} truths and {len(fold)} folds do not fit")
    counts = _count(dist_sq, issame, steps, fold)
    accepted = counts.cumsum(axis=2)[:, :, :-1]
    impostors, genuine = counts.sum(axis=2)
    sizes = impostors + genuine
    if not sizes.all():
        raise ValueError("a fold is empty")
    right = accepted[1] + impostors[:, None] - accepted[0]
    best = (right.sum(axis=0) - right).argmax(axis=1)
    accuracy = right[np.arange(FOLDS), best] / sizes
    return TenFold(
        accuracy_per_fold=accuracy,
        mean=float(accuracy.mean()),
        std=float(accuracy.std()),
        tpr=(accepted[1] / np.maximum(genuine, 1)[:, None]).mean(axis=0),
        fpr=(accepted[0] / np.maximum(impostors, 1)[:, None]).mean(axis=0),
    )


def _count(
    dist_sq: NDArray[np.floating],
    issame: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
    folds: NDArray[np.int8],
) -> NDArray[np.int64]:
    """Pairs [2 kinds, 10 folds, first threshold that accepts; the last column: none does]."""
    shape = (2, FOLDS, len(thresholds) + 1)
    counts = np.zeros(shape, np.int64).reshape(-1)
    for start in range(0, len(dist_sq), _CHUNK):
        part = slice(start, start + _CHUNK)
        first = np.searchsorted(thresholds, dist_sq[part], side="right")
        cell = (issame[part].astype(np.int64) * FOLDS + folds[part]) * shape[2] + first
        counts += np.bincount(cell, minlength=len(counts))
    return counts.reshape(shape)


def _split(pairs: int) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(pairs), FOLDS)
