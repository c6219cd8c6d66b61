"""1:N: whom a probe resembles most among the people of a gallery, and whether it is anybody.

Ties count against the system: a person as similar as the mate stands before the mate, and a
threshold that a non-mated probe reaches is passed by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.blocks import Block, Rows, corners, each_block
from sf2cli.evaluation.highest import Highest
from sf2cli.evaluation.intervals import Interval, binomial_interval

RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-1)
_BLOCK_SCORES = 1 << 22


@dataclass(frozen=True)
class Search:
    """Every probe against one gallery.

    Args:
        mated: whether the probe's person is in the gallery, bool [probes].
        mate: similarity to that person, float32 [probes]; -inf for a probe without a mate.
        rank: 1 + the number of other people at least as similar [probes]; 0 without a mate.
        best_other: the highest similarity to another person [probes]; -inf if there is none.
        people: in the gallery.
        others: the highest similarities of all of probes and other people, descending.
    """

    mated: NDArray[np.bool_]
    mate: Rows
    rank: NDArray[np.int64]
    best_other: Rows
    people: int
    others: Rows


@dataclass(frozen=True)
class RankRate:
    """The share of mated probes whose mate is among the `rank` most similar people."""

    rank: int
    rate: float | None
    hits: int
    probes: int
    interval: Interval | None


@dataclass(frozen=True)
class TpirAtFpir:
    """TPIR at the lowest threshold with FPIR at or below `fpir`; None where it cannot be given."""

    fpir: float
    tpir: float | None
    threshold: float | None
    hits: int | None
    mated: int
    false_positives: int | None
    non_mated: int
    interval: Interval | None


def search(
    probes: Rows,
    probe_people: NDArray[np.int64],
    gallery: Rows,
    gallery_people: NDArray[np.int64],
    description: str,
) -> Search:
    """Compare every probe with every gallery entry, keeping a few numbers a probe.

    Args:
        probes: unit rows [P, d].
        probe_people: the person of each [P].
        gallery: unit rows [G, d], G >= 1; a person's similarity is that of the best entry.
        gallery_people: the person of each [G].
        description: of the progress display.

    Raises:
        ValueError: an empty gallery, or lengths that differ.
    """
    if not len(gallery) or len(gallery) != len(gallery_people) or len(probes) != len(probe_people):
        raise ValueError(
            f"{len(gallery)} gallery rows of {len(gallery_people)} people, {len(probes)} probes"
            f" of {len(probe_people)}"
        )
    order = np.argsort(gallery_people, kind="stable")
    people, starts = np.unique(gallery_people[order], return_index=True)
    entries = np.ascontiguousarray(gallery[order])
    place = np.searchsorted(people, probe_people).clip(max=len(people) - 1)
    mated = people[place] == probe_people
    kept = Highest(max(1, math.ceil(max(FPIRS) * len(probes))))

    def work(block: Block) -> tuple[Rows, NDArray[np.int64], Rows, Rows]:
        scores = block.scores
        if len(people) < len(entries):
            scores = np.maximum.reduceat(scores, starts, axis=1)
        part = slice(block.top, block.top + len(scores))
        known = np.flatnonzero(mated[part])
        mine = place[part][known]
        mate = np.full(len(scores), -np.inf, np.float32)
        mate[known] = scores[known, mine]
        rank = np.where(mated[part], (scores >= mate[:, None]).sum(axis=1), 0)
        scores[known, mine] = -np.inf
        return mate, rank, scores.max(axis=1), kept.fresh(scores)

    rows = max(1, _BLOCK_SCORES // len(entries))
    places = corners(len(probes), len(entries), (rows, len(entries)))
    found: list[tuple[Rows, NDArray[np.int64], Rows]] = []
    for mate, rank, best, others in each_block(probes, entries, places, work, description):
        found.append((mate, rank, best))
        kept.add(others)
    empty = np.empty(0, np.float32)
    mates, ranks, bests = zip(*found, strict=True) if found else ((empty,), (empty,), (empty,))
    highest = kept.descending()
    return Search(
        mated=mated,
        mate=np.concatenate(mates),
        rank=np.concatenate(ranks).astype(np.int64),
        best_other=np.concatenate(bests),
        people=len(people),
        others=highest[np.isfinite(highest)],
    )


def rank_rate(found: Search, rank: int) -> RankRate:
    """The closed-set identification rate: only probes with a mate count. None without such probes
    and where the gallery has fewer people than `rank`, so that nobody could miss."""
    probes = int(found.mated.sum())
    hits = int((found.mated & (found.rank <= rank)).sum())
    if not probes or rank > found.people:
        return RankRate(rank, None, hits, probes, None)
    return RankRate(rank, hits / probes, hits, probes, binomial_interval(hits, probes))


def tpir_at_fpir(found: Search, fpir: float) -> TpirAtFpir:
    """Open-set identification.

    FPIR(t) is the share of non-mated probes whose best similarity is t or more; TPIR(t) that of
    mated probes whose mate has rank 1 and a similarity of t or more.
    """
    alarms = np.sort(found.best_other[~found.mated])
    mated, non_mated = int(found.mated.sum()), len(alarms)
    allowed = math.floor(fpir * non_mated * (1 + 1e-12))
    if allowed < 1 or not mated:
        return TpirAtFpir(fpir, None, None, None, mated, None, non_mated, None)
    right = np.sort(found.mate[found.mated & (found.rank == 1)])
    # Scores at or below `refused` would let too many non-mated probes pass.
    refused = alarms[non_mated - 1 - allowed] if allowed < non_mated else -np.inf
    hits = len(right) - int(np.searchsorted(right, refused, side="right"))
    above = np.concatenate([right[right > refused], alarms[alarms > refused]])
    threshold = above.min() if len(above) else np.nextafter(np.float32(refused), np.float32(np.inf))
    false = non_mated - int(np.searchsorted(alarms, threshold, side="left"))
    interval = binomial_interval(hits, mated)
    return TpirAtFpir(fpir, hits / mated, float(threshold), hits, mated, false, non_mated, interval)


def tpir_by_pairs(found: Search, fpir: float) -> TpirAtFpir:
    """The peers' reading, which is not the open-set definition: the threshold is the
    ceil(fpir P)-th highest similarity of all pairs of a probe and another person, and TPIR the
    share of all P probes whose mate is above it.

    Source: InsightFace recognition/_evaluation_/ijb/ijb_1n.py and opensphere's IJB test.
    """
    probes = len(found.mated)
    mated = int(found.mated.sum())
    wanted = math.ceil(fpir * probes)
    if not probes or not mated or wanted > len(found.others):
        return TpirAtFpir(fpir, None, None, None, mated, None, probes - mated, None)
    threshold = float(found.others[wanted - 1])
    hits = int((found.mate > threshold).sum())
    false = int((found.others > threshold).sum())
    return TpirAtFpir(
        fpir,
        hits / probes,
        threshold,
        hits,
        mated,
        false,
        probes - mated,
        binomial_interval(hits, probes),
    )
