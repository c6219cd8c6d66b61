"""Which margins a loss takes; without torch, so that a recipe is read in no time."""

from __future__ import annotations

import math


def margin_problem(loss: str, margin: float) -> str | None:
    """What a margin has to be, where it is not; None where it fits.

    Args:
        loss: a variant of SphereFace2 (C, A, M, U) or the name of a softmax loss.
    """
    finite = math.isfinite(margin)
    match loss:
        case "normface":
            fits, expected = margin == 0, "0"
        case "cosface" | "adaface":
            fits, expected = finite and margin > 0, "a number > 0"
        case "arcface":
            fits, expected = 0 < margin < math.pi, "an angle between 0 and pi, both excluded,"
        case "M" | "sphereface" | "sphereface_r":
            fits, expected = finite and margin >= 1, "a factor >= 1"
        case _:
            fits, expected = finite and margin >= 0, "a number >= 0"
    return None if fits else expected
