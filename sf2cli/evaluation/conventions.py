"""TAR at FAR and accuracy as the peers compute them, so that numbers can be compared.

sf2          TAR at the lowest threshold with FAR <= target; accuracy over ten folds.
insightface  TAR at the point of the ROC whose FAR is nearest, which may exceed the target
             (eval_ijbc.py); accuracy over ten folds.
opensphere   TAR read off the ROC joined by straight lines (numpy.interp); the accuracy of the
             threshold that is best on the very list it is reported for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.verification import SortedScores, TarAtFar, tar_at_far

Convention = Literal["sf2", "insightface", "opensphere"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True)
class Corners:
    """The ROC that scikit-learn's roc_curve gives, by rising FAR, in counts [points]: every score
    at which the curve bends, tied scores entering together, from (0, 0) on."""

    false_accepts: NDArray[np.int64]
    accepts: NDArray[np.int64]
    thresholds: NDArray[np.float64]


def corners(scores: SortedScores) -> Corners:
    """Every point but those on a straight line between their neighbours, as the peers' ROC."""
    thresholds = np.unique(np.concatenate([scores.genuine, scores.impostor]))[::-1]
    false, right = (
        len(values) - np.searchsorted(values, thresholds, side="left")
        for values in (scores.impostor, scores.genuine)
    )
    bend = np.ones(len(thresholds), np.bool_)
    bend[1:-1] = (np.diff(false, 2) != 0) | (np.diff(right, 2) != 0)
    return Corners(
        np.append(0, false[bend]),
        np.append(0, right[bend]),
        np.append(np.inf, thresholds[bend].astype(np.float64)),
    )


def tars_at_fars(
    scores: SortedScores, fars: tuple[float, ...], convention: Convention
) -> tuple[TarAtFar, ...]:
    """TAR at each FAR as `convention` has it.

    A target below one false accept in all impostors is refused in every convention; where the peers
    interpolate, no threshold belongs to the number.
    """
    if convention == "sf2":
        return tuple(tar_at_far(scores, far) for far in fars)
    curve = corners(scores)
    read = _nearest if convention == "insightface" else _interpolated
    return tuple(read(curve, far, len(scores.genuine), len(scores.impostor)) for far in fars)


def _nearest(curve: Corners, far: float, genuine: int, impostors: int) -> TarAtFar:
    if math.floor(far * impostors * (1 + 1e-12)) < 1:
        return TarAtFar(far, None, None, None, impostors)
    # Of equally near points the one with the higher FAR, and with the higher TAR at one FAR.
    distance = np.abs(curve.false_accepts / impostors - far)[::-1]
    k = len(distance) - 1 - int(distance.argmin())
    return TarAtFar(
        far,
        int(curve.accepts[k]) / genuine,
        float(curve.thresholds[k]),
        int(curve.false_accepts[k]),
        impostors,
    )


def _interpolated(curve: Corners, far: float, genuine: int, impostors: int) -> TarAtFar:
    if math.floor(far * impostors * (1 + 1e-12)) < 1:
        return TarAtFar(far, None, None, None, impostors)
    tar = np.interp(far, curve.false_accepts / impostors, curve.accepts / genuine)
    return TarAtFar(far, float(tar), None, None, impostors)


@dataclass(frozen=True)
class SingleThreshold:
    """The best accuracy of one threshold over a whole list, chosen on that list; the highest of
    equally good thresholds, None where refusing every pair is best."""

    accuracy: float
    threshold: float | None


def single_threshold(scores: SortedScores) -> SingleThreshold:
    """opensphere's accuracy: max over thresholds of the share of pairs told right."""
    # Only at a genuine score can lowering the threshold gain anything.
    thresholds = np.unique(scores.genuine)
    accepted = len(scores.genuine) - np.searchsorted(scores.genuine, thresholds, side="left")
    refused = np.searchsorted(scores.impostor, thresholds, side="left")
    right = accepted + refused
    total = len(scores.genuine) + len(scores.impostor)
    best = int(right.max())
    if best < len(scores.impostor):
        return SingleThreshold(len(scores.impostor) / total, None)
    k = int(np.flatnonzero(right == best)[-1])
    return SingleThreshold(best / total, float(thresholds[k]))


# How a rate's target stands to it: kept, come near to, or hit by interpolation.
SIGNS: dict[Convention, str] = {"sf2": "≤", "insightface": "≈", "opensphere": "="}
TAR_RULES: dict[Convention, str] = {
    "sf2": (
        "TAR at the lowest threshold whose FAR does not exceed the target; nothing is interpolated."
    ),
    "insightface": (
        "TAR at the point of the ROC whose FAR is nearest to the target, which it may exceed"
        " (InsightFace's convention, eval_ijbc.py)."
    ),
    "opensphere": (
        "TAR at the target on the ROC joined by straight lines (opensphere's convention); no"
        " threshold belongs to it."
    ),
}
