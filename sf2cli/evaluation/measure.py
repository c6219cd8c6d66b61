"""The metrics of one set of scored pairs, and what its size cannot support."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.conventions import Convention, single_threshold, tars_at_fars
from sf2cli.evaluation.intervals import binomial_interval, bootstrap_tar
from sf2cli.evaluation.pair_set import PairSet, Repeats
from sf2cli.evaluation.scoring import Scores
from sf2cli.evaluation.tenfold import (
    FOLDS,
    contiguous_folds,
    stratified_folds,
    tenfold_accuracy,
)
from sf2cli.evaluation.verification import SortedScores, TarAtFar, auc, eer, roc

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
# Drawing identities again takes about a second for so many pairs.
_BOOTSTRAP_PAIRS = 500_000
_DET_POINTS = 200
# The benchmarks that the accuracy is made for hold half of each kind.
_LOPSIDED = 0.6


@dataclass(frozen=True)
class Det:
    """The detection error trade-off at some thresholds, falling, each point exact."""

    far: tuple[float, ...]
    frr: tuple[float, ...]
    threshold: tuple[float, ...]


@dataclass(frozen=True)
class Verification:
    """How well scores tell genuine from impostor pairs; rates are shares, not percent.

    The accuracies over folds are None where there are fewer than ten pairs. `best_accuracy` is that
    of `best_threshold`, the best for these very pairs (None: refusing all is best).
    """

    eer: float
    eer_threshold: float
    auc: float
    accuracy: float | None
    accuracy_std: float | None
    accuracy_per_fold: tuple[float, ...] | None
    best_accuracy: float
    best_threshold: float | None
    tar_at_far: tuple[TarAtFar, ...]
    det: Det
    convention: Convention


def draw_folds(pairs: PairSet) -> NDArray[np.int8] | None:
    """The fold 0 ... 9 of each pair [pairs], as the protocol has it; None below ten pairs."""
    if len(pairs) < FOLDS:
        return None
    if pairs.folds == "contiguous":
        return contiguous_folds(len(pairs))
    return stratified_folds(pairs.issame)


def measure(
    pairs: PairSet,
    scores: Scores,
    split: SortedScores,
    folds: NDArray[np.int8] | None,
    convention: Convention = "sf2",
) -> Verification:
    """Every metric.

    Args:
        pairs: what was scored.
        scores: cosines [pairs].
        split: the same, sorted by kind.
        folds: of `draw_folds`.
        convention: whose TAR at FAR.
    """
    equal, best = eer(split), single_threshold(split)
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
        best_accuracy=best.accuracy,
        best_threshold=best.threshold,
        tar_at_far=_with_intervals(
            pairs, scores, len(split.genuine), tars_at_fars(split, FARS, convention)
        ),
        det=det(split),
        convention=convention,
    )


def det(split: SortedScores) -> Det:
    """Points of the DET curve, at most about twice _DET_POINTS."""
    curve = roc(split, max_points=_DET_POINTS)
    # At the first point's threshold, infinity, everything is refused; JSON has no such number.
    return Det(
        tuple(curve.far[1:].tolist()),
        tuple((1 - curve.tar[1:]).tolist()),
        tuple(curve.thresholds[1:].tolist()),
    )


def _with_intervals(
    pairs: PairSet, scores: Scores, genuine: int, found: tuple[TarAtFar, ...]
) -> tuple[TarAtFar, ...]:
    """Intervals by bootstrap where the identities are known and the pairs few, else binomial."""
    measured = tuple(one.far for one in found if one.tar is not None)
    if pairs.labels is not None and len(pairs) <= _BOOTSTRAP_PAIRS and measured:
        first, second = pairs.labels[pairs.first], pairs.labels[pairs.second]
        drawn = dict(zip(measured, bootstrap_tar(scores, first, second, measured), strict=True))
        return tuple(replace(one, interval=drawn.get(one.far)) for one in found)
    return with_binomial(found, genuine)


def with_binomial(found: tuple[TarAtFar, ...], genuine: int) -> tuple[TarAtFar, ...]:
    """The same with exact binomial intervals of so many genuine pairs."""
    return tuple(
        one
        if one.tar is None
        else replace(one, interval=binomial_interval(round(one.tar * genuine), genuine))
        for one in found
    )


def limits(pairs: PairSet, found: Verification, folds: NDArray[np.int8] | None) -> list[str]:
    """A sentence for each number that the pairs cannot give, or give with a reservation."""
    repeats = Repeats(0, 0, 0)
    if not pairs.all_pairs:
        repeats = Repeats.of(pairs.first, pairs.second, pairs.issame)
    notes = repeats.notes()
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
