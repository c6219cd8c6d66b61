"""Confidence intervals of rates: exact binomial, and bootstrap over identities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
REPLICATES = 200
_TINY = 1e-300
_HALVINGS = 60


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a share, and how it was found."""

    low: float
    high: float
    method: Literal["binomial", "bootstrap"]


def binomial_interval(hits: int, trials: int, level: float = LEVEL) -> Interval:
    """The exact interval of Clopper and Pearson (1934) for independent trials.

    Its ends are the shares at which so many hits or more, and so many or fewer, would each have
    the chance (1 - level) / 2.

    Raises:
        ValueError: no trials, or hits outside 0 ... trials.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    tail = (1 - level) / 2
    # P(X >= k) of n trials at share p is the incomplete beta function I_p(k, n - k + 1).
    low = 0.0 if hits == 0 else _solve(tail, hits, trials - hits + 1)
    high = 1.0 if hits == trials else _solve(1 - tail, hits + 1, trials - hits)
    return Interval(low, high, "binomial")


def _solve(target: float, a: float, b: float) -> float:
    """The p at which I_p(a, b) is `target`: it rises with p."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if incomplete_beta(middle, a, b) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.5.8, evaluated from the
    top by Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast below the mean; above it the mirrored one does.
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    value, up, down = 1.0, 1.0, 0.0
    for step in range(10_000):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        down = 1 / _off_zero(1 + term * down)
        up = _off_zero(1 + term / up)
        value *= up * down
        if abs(up * down - 1) < 1e-15:
            break
    # What was evaluated is 1 + the fraction.
    return math.exp(log_front) / a * (value - 1)


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def bootstrap_tar(
    scores: NDArray[np.floating],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    fars: tuple[float, ...],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[Interval]:
    """Intervals of TAR at FAR from drawing the identities again, with replacement.

    Pairs that share an identity are not independent, which the binomial interval takes them to be.
    An identity drawn c times counts its genuine pairs c times, and impostor pairs of identities
    drawn c and e times count c e times (two copies of one identity are no impostors). Each
    replicate finds its own threshold, the lowest with FAR <= target.

    Args:
        scores: similarities [pairs].
        first: identity 0, 1, ... of each pair's first image [pairs].
        second: of its second image; the same in a genuine pair.
        fars: targets.
        seed: of numpy's PCG64.
        replicates: how many draws; those without genuine or impostor pairs are drawn again.

    Returns:
        For each target the 2.5th and 97.5th percentile of the replicates' TAR.
    """
    order = np.argsort(-scores, kind="stable")
    one, other, ranked = first[order], second[order], scores[order]
    genuine = one == other
    # A threshold lies between two different scores: a run of equal ones enters as a whole.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    identities = int(max(one.max(), other.max())) + 1
    generator = np.random.Generator(np.random.PCG64(seed))
    tars = np.empty((replicates, len(fars)))
    done = 0
    while done < replicates:
        drawn = np.bincount(generator.integers(0, identities, identities), minlength=identities)
        weight = np.where(genuine, drawn[one], drawn[one] * drawn[other])
        accepted = np.cumsum(np.where(genuine, weight, 0))
        false = np.cumsum(np.where(genuine, 0, weight))
        if not accepted[-1] or not false[-1]:
            continue
        for k, far in enumerate(fars):
            fitting = np.searchsorted(false[ends], far * false[-1] * (1 + 1e-12), side="right")
            tars[done, k] = accepted[ends[fitting - 1]] / accepted[-1] if fitting else 0.0
        done += 1
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(tars, [tail, 100 - tail], axis=0)
    return [Interval(float(a), float(b), "bootstrap") for a, b in zip(low, high, strict=True)]
