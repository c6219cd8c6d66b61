"""Runs of a study put together: means over the seeds, and differences from the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Metrics = Mapping[str, float]

_COVERED = 0.95


@dataclass(frozen=True)
class Difference:
    """How much a cell is above the baseline's over `seeds` common seeds, and between which values
    with 95 % confidence; None for one seed, which says nothing of the next."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        if self.low is None or self.high is None or self.low == self.high:
            return False
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Statistic:
    """One metric of one cell over its seeds; `sd` is None for one seed, `difference` for the
    baseline itself and where no seed is common to both."""

    values: dict[int, float]
    mean: float
    sd: float | None
    difference: Difference | None


def summarise(
    runs: Mapping[int, Metrics], baseline: Mapping[int, Metrics] | None
) -> dict[str, Statistic]:
    """The statistics of each metric of one cell.

    Args:
        runs: seed -> metrics.
        baseline: the same of the cell to compare with; None for that cell itself.
    """
    names = list(dict.fromkeys(name for metrics in runs.values() for name in metrics))
    return {
        name: _statistic(_of(runs, name), None if baseline is None else _of(baseline, name))
        for name in names
    }


def _of(runs: Mapping[int, Metrics], name: str) -> dict[int, float]:
    return {seed: metrics[name] for seed, metrics in runs.items() if name in metrics}


def _statistic(values: dict[int, float], baseline: Mapping[int, float] | None) -> Statistic:
    found = list(values.values())
    return Statistic(
        values,
        float(np.mean(found)),
        float(np.std(found, ddof=1)) if len(found) > 1 else None,
        None if baseline is None else paired_difference(values, baseline),
    )


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """The mean difference over common seeds, with its paired t interval.

    mean +- t sd / sqrt(n), t the 97.5 % quantile of Student's distribution with n - 1 degrees of
    freedom (Student, "The probable error of a mean", 1908). It supposes that the differences are
    normal, which a few seeds cannot show.
    """
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    differences = np.array([values[seed] - baseline[seed] for seed in seeds])
    mean, n = float(differences.mean()), len(seeds)
    if n == 1:
        return Difference(mean, None, None, n)
    half = t_quantile(_COVERED, n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)


def t_quantile(covered: float, freedom: int) -> float:
    """The t with P(|T| <= t) = covered, T of Student's distribution; by bisection of the exact
    finite sum (Abramowitz, Stegun: "Handbook of Mathematical Functions", 26.7.3 and 26.7.4)."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < covered else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle))."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def ordered(seeds: Sequence[int], runs: Mapping[int, Metrics]) -> dict[int, Metrics]:
    """The runs in the order of the study's seeds."""
    return {seed: runs[seed] for seed in seeds if seed in runs}
