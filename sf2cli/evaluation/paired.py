"""How far apart two runs are on the same set: a paired bootstrap.

Images of one person are not independent. So where people are known it is they that are drawn
again, with replacement; how that weighs pairs, probes and trials is in `weighted`. All runs are
measured on the same draws, so that what makes a draw easy or hard cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.evaluation.kept import Kept, KeptPairs, KeptSearches, KeptTrials
from sf2cli.evaluation.weighted import (
    FARS,
    Measured,
    RankedPairs,
    RankedSearches,
    Trials,
    draws_of_pairs,
    draws_of_people,
)

REPLICATES = 1000
_LEVEL = 95.0
# Sums over pairs in all; more take minutes.
_WORK = 4_000_000_000
_FEWEST = 100


@dataclass(frozen=True)
class Difference:
    """A later run's value less the first one's, with the middle 95 % of its draws; None where there
    are no draws."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Runs on one set.

    Args:
        names: of the metrics.
        values: of each run [runs, metrics], by the definitions of the convention `sf2`.
        differences: to the first run, for each run but the first; None where a metric cannot be
            measured.
        drawn: `identities` or `pairs`.
        replicates: how many draws.
    """

    names: list[str]
    values: NDArray[np.float64]
    differences: list[list[Difference | None]]
    drawn: str
    replicates: int


def paired_bootstrap(
    runs: Sequence[Kept], description: str | None = None, fars: Sequence[float] = FARS
) -> Paired:
    """Measure the runs and their differences.

    Args:
        runs: two or more, on the same set: pairs, probes or trials in the same order.
        description: of the progress display; None shows none.
        fars: targets of TAR at FAR, where there are pairs.
    """
    one = runs[0]
    work = len(one) * len(runs)
    replicates = min(REPLICATES, max(_FEWEST, _WORK // max(work, 1)))
    if isinstance(one, KeptPairs):
        draws = draws_of_pairs(one, replicates)
    else:
        draws = draws_of_people(one.people, replicates)
    measured = [_measured(kept, fars) for kept in runs]
    values = np.stack([each.measure(np.ones(len(one))) for each in measured])
    found = np.empty((replicates, *values.shape))
    shown = console.progress(description, replicates, "draws") if description else nullcontext()
    with shown as line:
        for k, weights in enumerate(draws):
            found[k] = [each.measure(weights) for each in measured]
            if line is not None:
                line.advance()
    return Paired(
        names=measured[0].names,
        values=values,
        differences=[_differences(values, found, run) for run in range(1, len(runs))],
        drawn="pairs" if isinstance(one, KeptPairs) and one.first is None else "identities",
        replicates=replicates,
    )


def _measured(kept: Kept, fars: Sequence[float]) -> Measured:
    if isinstance(kept, KeptTrials):
        return Trials(kept)
    return RankedSearches(kept) if isinstance(kept, KeptSearches) else RankedPairs(kept, fars)


def _differences(
    values: NDArray[np.float64], draws: NDArray[np.float64], run: int
) -> list[Difference | None]:
    found: list[Difference | None] = []
    for metric in range(values.shape[1]):
        value = values[run, metric] - values[0, metric]
        if np.isnan(value):
            found.append(None)
            continue
        apart = draws[:, run, metric] - draws[:, 0, metric]
        apart = apart[~np.isnan(apart)]
        if not len(apart):
            found.append(Difference(float(value), None, None))
            continue
        tail = (100 - _LEVEL) / 2
        low, high = np.percentile(apart, [tail, 100 - tail])
        found.append(Difference(float(value), float(low), float(high)))
    return found
