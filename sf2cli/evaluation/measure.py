"""The metrics of one set of scored pairs, and what its size cannot support."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.pair_set import PairSet
from sf2cli.evaluation.scoring import Scores
from sf2cli.evaluation.tenfold import (
    FOLDS,
    contiguous_folds,
    stratified_folds,
    tenfold_accuracy,
)
from sf2cli.evaluation.verification import SortedScores, TarAtFar, auc, eer, tar_at_far

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
# The benchmarks that the accuracy is made for hold half of each kind.
_LOPSIDED = 0.6


@dataclass(frozen=True)
class Verification:
    """How well scores tell genuine from impostor pairs; rates are shares, not percent.

    The accuracies are None where there are fewer than ten pairs.
    """

    eer: float
    eer_threshold: float
    auc: float
    accuracy: float | None
    accuracy_std: float | None
    accuracy_per_fold: tuple[float, ...] | None
    tar_at_far: tuple[TarAtFar, ...]


def draw_folds(pairs: PairSet) -> NDArray[np.int8] | None:
    """The fold 0 ... 9 of each pair [pairs], as the protocol has it; None below ten pairs."""
    if len(pairs) < FOLDS:
        return None
    if pairs.folds == "contiguous":
        return contiguous_folds(len(pairs))
    return stratified_folds(pairs.issame)


def measure(
    pairs: PairSet, scores: Scores, split: SortedScores, folds: NDArray[np.int8] | None
) -> Verification:
    """Every metric.

    Args:
        pairs: what was scored.
        scores: cosines [pairs].
        split: the same, sorted by kind.
        folds: of `draw_folds`.
    """
    equal = eer(split)
    tenfold = None
    if folds is not None:
        tenfold = tenfold_accuracy(2 - 2 * scores.astype(np.float64), pairs.issame, folds=folds)
    return Verification(
        eer=equal.rate,
        eer_threshold=equal.threshold,
        auc=auc(split),
        accuracy=tenfold.mean if tenfold else None,
        accuracy_std=tenfold.std if tenfold else None,
        accuracy_per_fold=tuple(tenfold.accuracy_per_fold.tolist()) if tenfold else None,
        tar_at_far=tuple(tar_at_far(split, far) for far in FARS),
    )


def limits(pairs: PairSet, found: Verification, folds: NDArray[np.int8] | None) -> list[str]:
    """A sentence for each number that the pairs cannot give, or give with a reservation."""
    notes = []
    unsupported = [entry.far for entry in found.tar_at_far if entry.tar is None]
    if unsupported:
        notes.append(
            f"TAR at FAR ≤ {percent(unsupported[0])} needs at least"
            f" {math.ceil(1 / unsupported[0] - 1e-6):,} impostor pairs; there are"
            f" {pairs.impostor:,}."
        )
    if folds is None:
        notes.append(
            f"The accuracy over {FOLDS} folds needs {FOLDS} pairs; there are {len(pairs)}."
        )
        return notes
    if _one_sided(pairs, folds):
        notes.append(
            "Some of the ten folds hold pairs of one kind only, for the list is sorted by kind: its"
            " accuracy does not compare with that of a list in LFW's order."
        )
    commoner = max(pairs.genuine, pairs.impostor) / len(pairs)
    if commoner > _LOPSIDED:
        kind = "impostor" if pairs.impostor > pairs.genuine else "genuine"
        notes.append(f"Calling every pair {kind} would already give an accuracy of {commoner:.2%}.")
    return notes


def percent(share: float) -> str:
    """A share such as a FAR target, as in `0.1%`."""
    return f"{share * 100:g}%"


def _one_sided(pairs: PairSet, folds: NDArray[np.int8]) -> bool:
    """Whether a fold lacks a kind of pairs of which there are enough for every fold."""
    if min(pairs.genuine, pairs.impostor) < FOLDS:
        return False
    genuine = np.bincount(folds[pairs.issame], minlength=FOLDS)
    sizes = np.bincount(folds, minlength=FOLDS)
    return bool(((genuine == 0) | (genuine == sizes)).any())
