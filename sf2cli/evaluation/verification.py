"""Verification metrics: what a list of pair scores and their truth is worth.

Scores are similarities: higher is more alike, and a threshold t accepts a pair when score >= t.
FAR(t) is the share of impostor pairs accepted, TAR(t) that of genuine pairs, FRR = 1 - TAR. Scores
may be float32 or float64 (sorting does not change them); rates are ratios of integers in float64.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sf2cli.evaluation.intervals import Interval

Floats = NDArray[np.floating]
_ROC_POINTS = 2000


@dataclass(frozen=True)
class SortedScores:
    """The scores of the two kinds of pairs, each ascending; made once, read by every metric."""

    genuine: Floats
    impostor: Floats

    @classmethod
    def of(cls, scores: ArrayLike, issame: ArrayLike) -> SortedScores:
        """Split and sort.

        Args:
            scores: similarities [n], float32 or float64.
            issame: True for genuine pairs, bool [n].

        Raises:
            ValueError: lengths differ, a score is NaN, or one kind of pairs is missing.
        """
        values, same = np.asarray(scores), np.asarray(issame, dtype=np.bool_)
        if values.shape != same.shape or values.ndim != 1:
            raise ValueError(f"scores {values.shape} and issame {same.shape} do not fit")
        if np.isnan(values).any():
            raise ValueError("a score is NaN")
        genuine, impostor = values[same], values[~same]
        if not len(genuine) or not len(impostor):
            missing = "impostor" if len(genuine) else "genuine"
            raise ValueError(f"there is no {missing} pair")
        genuine.sort()
        impostor.sort()
        return cls(genuine, impostor)

    def accepted(self, threshold: float) -> tuple[int, int]:
        """How many genuine and how many impostor pairs score `threshold` or more."""
        return (
            len(self.genuine) - int(np.searchsorted(self.genuine, threshold, side="left")),
            len(self.impostor) - int(np.searchsorted(self.impostor, threshold, side="left")),
        )


@dataclass(frozen=True)
class Roc:
    """Points of the ROC by falling threshold; the first is (0, 0) at threshold infinity."""

    far: NDArray[np.float64]
    tar: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class EqualError:
    """The equal error rate and the score at which it is reached."""

    rate: float
    threshold: float


@dataclass(frozen=True)
class TarAtFar:
    """TAR at the loosest threshold that keeps FAR at or below `far`.

    `tar` and `threshold` are None when the impostor pairs are too few to measure `far`. `interval`
    is that of `tar`, where it was asked for.
    """

    far: float
    tar: float | None
    threshold: float | None
    accepted_impostors: int | None
    impostors: int
    interval: Interval | None = None


def roc(scores: SortedScores, max_points: int = _ROC_POINTS) -> Roc:
    """The ROC at every distinct score; where there are many, at some of them.

    Of more than `max_points` scores of a kind those at evenly and at geometrically spaced ranks
    from the top are taken, so that low FAR stays resolved. Every point is exact; tied scores enter
    together.
    """
    picked = [_thin(scores.genuine, max_points), _thin(scores.impostor, max_points)]
    thresholds = np.unique(np.concatenate(picked))[::-1]
    # One division of whole numbers, so that rates equal those of the other metrics exactly.
    far, tar = (
        (len(values) - np.searchsorted(values, thresholds)) / len(values)
        for values in (scores.impostor, scores.genuine)
    )
    return Roc(
        np.concatenate([[0.0], far]),
        np.concatenate([[0.0], tar]),
        np.concatenate([[np.inf], thresholds.astype(np.float64)]),
    )


def _thin(ascending: Floats, max_points: int) -> Floats:
    n = len(ascending)
    if n <= max_points:
        return ascending
    half = max_points // 2
    ranks = np.concatenate([np.linspace(0, n - 1, half), np.geomspace(1, n, half) - 1])
    return ascending[n - 1 - np.unique(ranks.astype(np.int64))]


def eer(scores: SortedScores) -> EqualError:
    """The rate at which FAR = FRR, on the ROC joined by straight lines.

    With finitely many pairs FAR and FRR rarely meet in a point; between the last point with
    FAR >= FRR and the next, stricter one the ROC is taken as linear.
    """
    num_genuine, num_impostor = len(scores.genuine), len(scores.impostor)

    def too_strict(threshold: float) -> bool:
        genuine, impostor = scores.accepted(threshold)
        # Cross-multiplied, so that equality is decided in integers.
        return impostor * num_genuine < (num_genuine - genuine) * num_impostor

    loose, strict = [], []
    for values in (scores.genuine, scores.impostor):
        first = bisect_left(values, True, key=too_strict)
        loose += [float(values[first - 1])] if first else []
        strict += [float(values[first])] if first < len(values) else []
    # The lowest score of all accepts everything, so `loose` is never empty.
    low = max(loose)
    far, frr = _errors(scores, low)
    next_far, next_frr = _errors(scores, min(strict)) if strict else (0.0, 1.0)
    weight = (far - frr) / ((far - frr) - (next_far - next_frr))
    return EqualError(far + weight * (next_far - far), low)


def _errors(scores: SortedScores, threshold: float) -> tuple[float, float]:
    genuine, impostor = scores.accepted(threshold)
    return impostor / len(scores.impostor), 1 - genuine / len(scores.genuine)


def auc(scores: SortedScores) -> float:
    """The area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2, counted."""
    below = np.searchsorted(scores.impostor, scores.genuine, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(scores.impostor, scores.genuine, side="right").sum(dtype=np.int64)
    return (int(below) + int(not_above)) / (2 * len(scores.genuine) * len(scores.impostor))


def tar_at_far(scores: SortedScores, far: float) -> TarAtFar:
    """TAR at the lowest threshold whose FAR does not exceed `far`.

    Nothing is interpolated, and FAR is never above the target (peers take the nearest point, which
    may be). Below one false accept in all impostor pairs a rate cannot be measured: tar is None.

    Args:
        scores: the pairs.
        far: target in (0, 1].

    Raises:
        ValueError: `far` outside (0, 1].
    """
    if not 0 < far <= 1:
        raise ValueError(f"far: found {far}, expected above 0 and at most 1")
    impostors = len(scores.impostor)
    # far * impostors may round just below the whole number that it is in decimal.
    allowed = math.floor(far * impostors * (1 + 1e-12))
    if allowed < 1:
        return TarAtFar(far, None, None, None, impostors)
    if allowed >= impostors:
        threshold = min(scores.genuine[0], scores.impostor[0])
    else:
        refused = scores.impostor[impostors - 1 - allowed]
        above = [
            values[first]
            for values in (scores.genuine, scores.impostor)
            if (first := int(np.searchsorted(values, refused, side="right"))) < len(values)
        ]
        threshold = min(above) if above else np.nextafter(refused, refused.dtype.type(np.inf))
    genuine, accepted = scores.accepted(threshold)
    return TarAtFar(far, genuine / len(scores.genuine), float(threshold), accepted, impostors)
