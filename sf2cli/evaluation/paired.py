"""How far apart two runs are on the same pairs: a paired bootstrap.

Pairs that share an identity are not independent. So where identities are known it is they that are
drawn again, with replacement: one that is drawn c times counts its genuine pairs c times, and
impostor pairs of identities drawn c and e times count c e times. Where they are not known, pairs
are drawn, genuine and impostor ones apart. All runs are measured on the same draws, so that what
makes a draw easy or hard cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.evaluation.kept_scores import KeptScores

Weights = NDArray[np.float64]

REPLICATES = 1000
_LEVEL = 95.0
# Sums over pairs in all; more take minutes.
_WORK = 4_000_000_000
_FEWEST = 100
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """A later run's value less the first one's, with the middle 95 % of its draws."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Runs on one set.

    Args:
        names: of the metrics.
        values: of each run [runs, metrics], as its own report has them.
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


class Ranked:
    """Scores put in order once, to be measured under many weights."""

    def __init__(self, kept: KeptScores) -> None:
        self._order = np.argsort(-kept.scores, kind="stable")
        ranked = kept.scores[self._order]
        self._genuine = kept.issame[self._order]
        # A threshold lies between two different scores: equal ones enter together.
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def measure(self, weights: Weights, fars: Sequence[float]) -> NDArray[np.float64]:
        """EER, AUC, then TAR at each FAR <= target, of pairs that count `weights` [pairs] times.

        NaN where a target allows less than one impostor pair.
        """
        ordered = weights[self._order]
        accepted = np.cumsum(np.where(self._genuine, ordered, 0))[self._ends]
        false = np.cumsum(np.where(self._genuine, 0, ordered))[self._ends]
        tar = np.append(0, accepted / accepted[-1])
        far = np.append(0, false / false[-1])
        area = float(((far[1:] - far[:-1]) * (tar[1:] + tar[:-1])).sum() / 2)
        tars = [
            tar[np.searchsorted(far, target * (1 + 1e-12), side="right") - 1]
            if target * false[-1] * (1 + 1e-12) >= 1
            else np.nan
            for target in fars
        ]
        return np.array([_eer(far, 1 - tar), area, *tars])


def paired_bootstrap(
    runs: Sequence[KeptScores], fars: Sequence[float], description: str | None = None
) -> Paired:
    """Measure the runs and their differences.

    Args:
        runs: two or more, on the same pairs in the same order.
        fars: targets of TAR at FAR.
        description: of the progress display; None shows none.
    """
    ranked = [Ranked(kept) for kept in runs]
    pairs = runs[0]
    values = np.stack([one.measure(np.ones(len(pairs.scores)), fars) for one in ranked])
    work = len(pairs.scores) * len(runs)
    replicates = min(REPLICATES, max(_FEWEST, _WORK // max(work, 1)))
    draws = np.empty((replicates, *values.shape))
    shown = console.progress(description, replicates, "draws") if description else nullcontext()
    with shown as line:
        for k, weights in enumerate(_weights(pairs, replicates)):
            draws[k] = [one.measure(weights, fars) for one in ranked]
            if line is not None:
                line.advance()
    return Paired(
        names=["EER", "AUC", *(f"TAR at FAR ≤ {far * 100:g}%" for far in fars)],
        values=values,
        differences=[_differences(values, draws, run) for run in range(1, len(runs))],
        drawn="pairs" if pairs.first is None else "identities",
        replicates=replicates,
    )


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
        tail = (100 - _LEVEL) / 2
        low, high = np.nanpercentile(apart, [tail, 100 - tail])
        found.append(Difference(float(value), float(low), float(high)))
    return found


def _weights(pairs: KeptScores, replicates: int) -> Iterator[Weights]:
    """How often each pair counts, for each draw; draws without a kind of pairs are made again."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    if pairs.first is None or pairs.second is None:
        kinds = np.flatnonzero(pairs.issame), np.flatnonzero(~pairs.issame)
        for _ in range(replicates):
            weights = np.zeros(len(pairs.issame))
            for members in kinds:
                chosen = generator.integers(0, len(members), len(members))
                weights[members] = np.bincount(chosen, minlength=len(members))
            yield weights
        return
    identities = int(max(pairs.first.max(), pairs.second.max())) + 1
    done = 0
    while done < replicates:
        chosen = generator.integers(0, identities, identities)
        times = np.bincount(chosen, minlength=identities).astype(np.float64)
        weights = np.where(
            pairs.issame, times[pairs.first], times[pairs.first] * times[pairs.second]
        )
        if weights[pairs.issame].any() and weights[~pairs.issame].any():
            done += 1
            yield weights


def _eer(far: NDArray[np.float64], frr: NDArray[np.float64]) -> float:
    """The rate at which FAR = FRR, on the ROC joined by straight lines; points by falling
    threshold, from FAR 0 and FRR 1 to FAR 1 and FRR 0."""
    loose = int(np.argmax(far >= frr))
    strict = loose - 1
    apart = far[loose] - frr[loose]
    weight = apart / (apart - (far[strict] - frr[strict]))
    return float(far[loose] + weight * (far[strict] - far[loose]))
