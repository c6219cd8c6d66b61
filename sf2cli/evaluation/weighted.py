"""Metrics of pairs, probes and trials that count so many times each, as a bootstrap draws them.

A person who is drawn c times counts its genuine pairs, its probes and its trials c times, and
impostor pairs of people drawn c and e times count c e times (two copies of one person are no
impostors). Galleries and distractors stay as they are. Where people are not known pairs are drawn,
genuine and impostor ones apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.identification import FPIRS, RANKS, Search
from sf2cli.evaluation.kept import KeptPairs, KeptSearches, KeptTrials

Weights = NDArray[np.float64]

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_SEED = 0
_SLACK = 1 + 1e-12


class Measured(Protocol):
    """What one run found, put in order once to be measured under many weights."""

    names: list[str]

    def measure(self, weights: Weights) -> NDArray[np.float64]:
        """Each metric of `names`, of pairs, probes or trials that count `weights` [n] times; NaN
        where what was drawn cannot support it."""
        ...


class RankedPairs:
    """Pairs: EER, AUC, the best accuracy, then TAR at each FAR <= target."""

    def __init__(self, kept: KeptPairs, fars: Sequence[float]) -> None:
        self.names = ["EER", "AUC", "best accuracy", *(f"TAR at FAR ≤ {f * 100:g}%" for f in fars)]
        self._fars = fars
        self._order = np.argsort(-kept.scores, kind="stable")
        ranked = kept.scores[self._order]
        self._genuine = kept.issame[self._order]
        # A threshold lies between two different scores: equal ones enter together.
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def measure(self, weights: Weights) -> NDArray[np.float64]:
        """See `Measured.measure`; there must be pairs of both kinds."""
        ordered = weights[self._order]
        accepted = np.cumsum(np.where(self._genuine, ordered, 0))[self._ends]
        false = np.cumsum(np.where(self._genuine, 0, ordered))[self._ends]
        genuine, impostor = accepted[-1], false[-1]
        right = max(float((accepted - false).max()), 0.0) + impostor
        tar = np.append(0, accepted / genuine)
        far = np.append(0, false / impostor)
        area = float(((far[1:] - far[:-1]) * (tar[1:] + tar[:-1])).sum() / 2)
        tars = [
            tar[np.searchsorted(far, target * _SLACK, side="right") - 1]
            if target * impostor * _SLACK >= 1
            else np.nan
            for target in self._fars
        ]
        return np.array([_eer(far, 1 - tar), area, right / (genuine + impostor), *tars])


class RankedSearches:
    """Probes: the rate of each rank and TPIR at each FPIR <= target, of each gallery and, where
    there are several, their mean."""

    def __init__(self, kept: KeptSearches) -> None:
        self._galleries = [_RankedSearch(one) for one in kept.galleries.values()]
        each = [f"rank {rank}" for rank in RANKS]
        each += [f"TPIR at FPIR ≤ {fpir * 100:g}%" for fpir in FPIRS]
        several = len(self._galleries) > 1
        prefixes = [f"{name}: " for name in (*kept.galleries, "mean")] if several else [""]
        self.names = [f"{prefix}{name}" for prefix in prefixes for name in each]

    def measure(self, weights: Weights) -> NDArray[np.float64]:
        """See `Measured.measure`."""
        found = np.stack([one.measure(weights) for one in self._galleries])
        if len(found) > 1:
            found = np.concatenate([found, found.mean(axis=0, keepdims=True)])
        return found.reshape(-1)


class _RankedSearch:
    """One gallery."""

    def __init__(self, found: Search) -> None:
        self._mated = found.mated
        # Nobody can miss a rank beyond the gallery's size.
        self._hits = np.stack([found.mated & (found.rank <= rank) for rank in RANKS], axis=1)
        self._known = np.array(RANKS) <= found.people
        self._alarms, self._alarmed = _falling(found.best_other, ~found.mated)
        self._right, self._found = _falling(found.mate, found.mated & (found.rank == 1))

    def measure(self, weights: Weights) -> NDArray[np.float64]:
        mated = weights[self._mated].sum()
        if not mated:
            return np.full(len(RANKS) + len(FPIRS), np.nan)
        rates = np.where(self._known, weights @ self._hits / mated, np.nan)
        alarms, right = (np.cumsum(weights[side]) for side in (self._alarmed, self._found))
        return np.append(rates, [self._tpir(fpir, alarms, right) / mated for fpir in FPIRS])

    def _tpir(self, fpir: float, alarms: Weights, right: Weights) -> float:
        """How many mated probes are found at the lowest threshold with FPIR <= `fpir`."""
        allowed = fpir * alarms[-1] * _SLACK if len(alarms) else 0.0
        if allowed < 1:
            return np.nan
        k = int(np.searchsorted(alarms, allowed, side="right"))
        # The first alarm too many, and its equals, must stay below the threshold.
        refused = self._alarms[k] if k < len(alarms) else -np.inf
        accepted = int(np.searchsorted(-self._right, -refused, side="left"))
        return float(right[accepted - 1]) if accepted else 0.0


class Trials:
    """Trials, two a pair: the rate of each rank."""

    def __init__(self, kept: KeptTrials) -> None:
        self.names = [f"rank {rank}" for rank in kept.ranks.tolist()]
        self._hits = kept.hits

    def measure(self, weights: Weights) -> NDArray[np.float64]:
        """See `Measured.measure`."""
        total = weights.sum()
        if not total:
            return np.full(len(self.names), np.nan)
        return np.asarray(weights @ self._hits / (2 * total))


def draws_of_people(people: NDArray[np.int64], replicates: int) -> Iterator[Weights]:
    """How often each entry [n] of these `people` counts, for each draw of the people."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    names, places = np.unique(people, return_inverse=True)
    for _ in range(replicates):
        chosen = generator.integers(0, len(names), len(names))
        yield np.bincount(chosen, minlength=len(names)).astype(np.float64)[places]


def draws_of_pairs(pairs: KeptPairs, replicates: int) -> Iterator[Weights]:
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


def _falling(
    scores: NDArray[np.floating], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """The wanted scores, highest first, and where they stood."""
    places = np.flatnonzero(wanted)
    places = places[np.argsort(-scores[places], kind="stable")]
    return scores[places], places


def _eer(far: NDArray[np.float64], frr: NDArray[np.float64]) -> float:
    """The rate at which FAR = FRR, on the ROC joined by straight lines; points by falling
    threshold, from FAR 0 and FRR 1 to FAR 1 and FRR 0."""
    loose = int(np.argmax(far >= frr))
    strict = loose - 1
    apart = far[loose] - frr[loose]
    weight = apart / (apart - (far[strict] - frr[strict]))
    return float(far[loose] + weight * (far[strict] - far[loose]))
