"""MegaFace: FaceScrub's people sought among up to a million distractors.

Identification (Kemelmacher-Shlizerman et al., CVPR 2016): each ordered pair of two photos of one
person is a trial, one photo in the gallery beside all distractors and the other the probe; it is
a hit at rank n if the gallery photo is more similar than the n-th most similar distractor.
Verification: those pairs are genuine, every pair of a probe and a distractor an impostor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.blocks import Block, Rows, corners, each_block
from sf2cli.evaluation.highest import Highest, HighestOfRows
from sf2cli.evaluation.identification import RankRate
from sf2cli.evaluation.intervals import binomial_interval
from sf2cli.evaluation.scoring import listed_cosines
from sf2cli.evaluation.verification import TarAtFar

RANKS = (1, 10, 100)
FARS = (1e-4, 1e-5, 1e-6)
_COLUMNS = 2048


@dataclass(frozen=True)
class MegaFace:
    """What a search found.

    Args:
        first: probe number of each unordered genuine pair [pairs].
        second: of its other photo [pairs], first < second.
        genuine: similarity of each [pairs].
        nearest: of each probe the highest distractor similarities, descending [P, max(RANKS)];
            -inf beyond the number of distractors.
        impostors: the highest similarities of all probes and distractors, descending.
        distractors: how many there are.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    genuine: Rows
    nearest: Rows
    impostors: Rows
    distractors: int

    def rank_rate(self, rank: int) -> RankRate:
        """The share of trials, two a genuine pair, that hit at `rank`, at most max(RANKS). None
        without trials, and with fewer distractors than `rank`, so that nobody could miss."""
        trials = 2 * len(self.genuine)
        if not trials or rank > self.distractors:
            return RankRate(rank, None, trials, trials, None)
        hits = int(self.hits(rank).sum())
        return RankRate(rank, hits / trials, hits, trials, binomial_interval(hits, trials))

    def hits(self, rank: int) -> NDArray[np.uint8]:
        """Of each genuine pair's two trials, how many hit at `rank`: 0, 1 or 2 [pairs]."""
        limit = self.nearest[:, rank - 1]
        sides = [self.genuine > limit[side] for side in (self.first, self.second)]
        return np.asarray(np.sum(sides, axis=0, dtype=np.uint8))

    def tar_at_far(self, far: float) -> TarAtFar:
        """TAR at the lowest threshold with FAR <= `far`, at most max(FARS)."""
        total = len(self.nearest) * self.distractors
        allowed = math.floor(far * total * (1 + 1e-12))
        if allowed < 1 or not len(self.genuine):
            return TarAtFar(far, None, None, None, total)
        # One more was kept than may be accepted: it and its equals are refused.
        refused = self.impostors[allowed] if allowed < len(self.impostors) else np.float32(-np.inf)
        genuine, impostors = (side[side > refused] for side in (self.genuine, self.impostors))
        above = np.concatenate([genuine, impostors])
        threshold = above.min() if len(above) else np.nextafter(refused, np.float32(np.inf))
        tar = len(genuine) / len(self.genuine)
        return TarAtFar(far, tar, float(threshold), len(impostors), total)


def search_distractors(
    probes: Rows, people: NDArray[np.int64], distractors: Rows, description: str
) -> MegaFace:
    """Compare every probe with every distractor, and with the other photos of its person.

    Args:
        probes: unit rows [P, d].
        people: the person of each [P].
        distractors: unit rows [D, d].
        description: of the progress display.
    """
    order = np.argsort(people, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(people[order])) + 1)
    pairs = [np.stack([run[i] for i in np.triu_indices(len(run), 1)]) for run in runs]
    first, second = (
        np.sort(np.concatenate(pairs, axis=1), axis=0) if pairs else np.empty((2, 0), int)
    )
    kept = Highest(math.floor(max(FARS) * len(probes) * len(distractors) * (1 + 1e-12)) + 1)
    nearest = HighestOfRows(len(probes), max(RANKS))

    def work(block: Block) -> tuple[NDArray[np.int64], Rows, Rows]:
        scores, floors = block.scores, nearest.floors
        if np.isneginf(floors).any():
            # Nothing is known yet that would keep most of the block out.
            width = min(max(RANKS), scores.shape[1])
            best = np.partition(scores, scores.shape[1] - width, axis=1)[:, -width:]
            rows = np.repeat(np.arange(len(scores)), width)
            return rows, best.reshape(-1), kept.fresh(scores)
        at = np.flatnonzero(scores >= np.minimum(floors, np.float32(kept.floor))[:, None])
        rows, found = at // scores.shape[1], scores.reshape(-1)[at]
        mine = found >= floors[rows]
        return rows[mine], found[mine], kept.fresh(found)

    # All probes in one block: each distractor is read from memory once.
    places = corners(len(probes), len(distractors), (len(probes), _COLUMNS))
    for rows, best, scores in each_block(probes, distractors, places, work, description):
        nearest.add(rows, best)
        kept.add(scores)
    return MegaFace(
        first=first,
        second=second,
        genuine=listed_cosines(probes, first, second).astype(np.float32),
        nearest=nearest.descending(),
        impostors=kept.descending(),
        distractors=len(distractors),
    )
