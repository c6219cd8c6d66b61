"""All pairs of a set too large to keep its scores: every impostor counted, exactly.

The genuine scores are few and kept; of the impostors it is counted, block by block, how many
reach each genuine score and how many pass it. That is all that TAR at FAR, EER, AUC and the best
accuracy depend on: between two genuine scores only the false accepts change.
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.blocks import Block, Corner, Rows, corners, each_block
from sf2cli.evaluation.verification import TarAtFar

Counts = NDArray[np.int64]

MAX_GENUINE = 50_000_000
_EDGE = 4096
_CELLS = 1 << 16
# So many scores and what is made of them stay in cache.
_PART = 1 << 17
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


@dataclass(frozen=True)
class Counted:
    """What was counted.

    Args:
        genuine: the scores of the genuine pairs, ascending, float32 [G].
        scores: the different ones among them, ascending [S].
        reaching: impostors with at least that score [S].
        passing: impostors with more [S].
        impostors: how many there are.
        edges: ascending similarities [E], for a histogram.
        above_edges: impostors with at least that similarity [E].
    """

    genuine: Rows
    scores: Rows
    reaching: Counts
    passing: Counts
    impostors: int
    edges: Rows
    above_edges: Counts

    @cached_property
    def accepted(self) -> Counts:
        """Genuine pairs with at least each of `scores` [S]."""
        return len(self.genuine) - np.searchsorted(self.genuine, self.scores, side="left")

    def auc(self) -> float:
        """The area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2."""
        each = -np.diff(np.append(self.accepted, 0))
        # 2 I - reaching - passing is twice the impostors below, ties counted half.
        wins = sum(
            int(n) * (2 * self.impostors - int(a) - int(b))
            for n, a, b in zip(each, self.reaching, self.passing, strict=True)
        )
        return wins / (2 * len(self.genuine) * self.impostors)

    def tar_at_far(self, far: float) -> TarAtFar:
        """As `verification.tar_at_far`; the threshold is the lowest genuine score accepted."""
        allowed = math.floor(far * self.impostors * (1 + 1e-12))
        if allowed < 1:
            return TarAtFar(far, None, None, None, self.impostors)
        fitting = np.flatnonzero(self.reaching <= allowed)
        if not len(fitting):
            return TarAtFar(far, 0.0, None, None, self.impostors)
        k = int(fitting[0])
        tar = int(self.accepted[k]) / len(self.genuine)
        return TarAtFar(far, tar, float(self.scores[k]), int(self.reaching[k]), self.impostors)

    def eer(self) -> tuple[float, float]:
        """The rate at which FAR = 1 - TAR, on the ROC joined by straight lines, and a threshold:
        the highest genuine score at which FAR is not below 1 - TAR, or the lowest of all."""
        num_genuine, num_impostor = len(self.genuine), self.impostors
        refused = num_genuine - self.accepted
        refused_above = np.append(refused[1:], num_genuine)

        def reached(k: int, false: Counts, lost: Counts) -> bool:
            # In Python's integers: 40 million genuine times 5e11 impostors exceed 64 bits.
            return int(false[k]) * num_genuine >= int(lost[k]) * num_impostor

        # FAR falls and 1 - TAR rises with the threshold, so that the last point is bisected.
        k = bisect(range(len(self.scores)), 0, key=lambda k: not reached(k, self.reaching, refused))
        k -= 1
        if k < 0:
            return float(refused[0]) / num_genuine, float(self.scores[0])
        threshold = float(self.scores[k])
        if reached(k, self.passing, refused_above):
            # Only impostors lie between here and the next genuine score: 1 - TAR stays.
            return float(refused_above[k]) / num_genuine, threshold
        far, frr = self.reaching[k] / num_impostor, refused[k] / num_genuine
        next_far, next_frr = self.passing[k] / num_impostor, refused_above[k] / num_genuine
        weight = (far - frr) / ((far - frr) - (next_far - next_frr))
        return float(far + weight * (next_far - far)), threshold

    def best_accuracy(self) -> tuple[float, float | None]:
        """The best share of pairs told right by one threshold, and the highest such threshold."""
        right = self.accepted + self.impostors - self.reaching
        best = int(right.max(initial=0))
        total = len(self.genuine) + self.impostors
        if best < self.impostors or not len(right):
            return self.impostors / total, None
        k = int(np.flatnonzero(right == best)[-1])
        return best / total, float(self.scores[k])


def count_all_pairs(
    rows: Rows, labels: NDArray[np.integer], description: str, bins: int = 60
) -> Counted:
    """Compare every row with every other.

    Args:
        rows: unit rows [n, d].
        labels: the identity of each [n].
        description: of the progress display.
        bins: of the histogram.

    Raises:
        Sf2Error: more than MAX_GENUINE genuine pairs, or none of a kind.
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(np.unique(labels, return_inverse=True)[1])
    pairs = int((sizes * (sizes - 1) // 2).sum())
    n = len(rows)
    impostors = n * (n - 1) // 2 - pairs
    if not pairs or not impostors:
        raise Sf2Error(
            f"none of the {pairs + impostors} pairs is {'impostor' if pairs else 'genuine'}"
        )
    if pairs > MAX_GENUINE:
        raise Sf2Error(
            f"{pairs:,} genuine pairs, of which {MAX_GENUINE:,} can be kept",
            "Pack fewer images of an identity.",
        )
    sorted_rows = np.ascontiguousarray(rows[order])
    # Where the identity of each row ends; the rows of one identity stand together now.
    ends = np.repeat(np.cumsum(sizes), sizes)
    genuine = _genuine_scores(sorted_rows, sizes, pairs)
    scores = np.unique(genuine)
    edges = np.linspace(-1, 1, bins + 1, dtype=np.float32)
    reaching, passing = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    above_edges = np.zeros(len(edges), np.int64)

    counter = Counter(np.concatenate([scores, edges]))

    def work(block: Block) -> tuple[Counts, Counts, Counts]:
        at, above = counter.count(_impostors(block, ends))
        return at[: len(scores)], above[: len(scores)], at[len(scores) :]

    for at, above, over in each_block(sorted_rows, sorted_rows, _upper(n), work, description):
        reaching += at
        passing += above
        above_edges += over
    return Counted(genuine, scores, reaching, passing, impostors, edges, above_edges)


class Counter:
    """Counts scores at many thresholds without sorting those that no threshold is near.

    Cells of equal width cut the range of similarities. A score in a cell without a threshold
    reaches all thresholds in lower cells and none in higher ones; only the others are sorted.
    Cells are found by float32 arithmetic that never changes the order of two scores.
    """

    def __init__(self, thresholds: Rows) -> None:
        self._thresholds = thresholds
        self._cells = _cells(thresholds)
        self._near = np.zeros(_CELLS, np.bool_)
        self._near[self._cells] = True

    def count(self, values: Rows) -> tuple[Counts, Counts]:
        """How many of `values` [n] reach each threshold, and how many pass it."""
        held, near = np.zeros(_CELLS, np.int64), []
        for start in range(0, len(values), _PART):
            part = values[start : start + _PART]
            cells = _cells(part)
            held += np.bincount(cells, minlength=_CELLS)
            near.append(part[self._near[cells]])
        held[self._near] = 0
        # Scores in cells above each threshold's own, of cells without a threshold.
        higher = np.append(held[::-1].cumsum()[::-1], 0)[self._cells + 1]
        close = np.sort(np.concatenate([*near, np.empty(0, np.float32)]))
        at, above = (
            higher + len(close) - np.searchsorted(close, self._thresholds, side=side)
            for side in _SIDES
        )
        return at, above


def _cells(values: Rows) -> NDArray[np.int32]:
    scaled = (values + np.float32(1)) * np.float32(_CELLS / 2)
    cells: NDArray[np.int32] = scaled.astype(np.int32).clip(0, _CELLS - 1)
    return cells


def _upper(n: int) -> list[Corner]:
    """The blocks that hold pairs i < j."""
    return [place for place in corners(n, n, (_EDGE, _EDGE)) if place.left >= place.top]


def _genuine_scores(rows: Rows, sizes: Counts, pairs: int) -> Rows:
    scores = np.empty(pairs, np.float32)
    done, start = 0, 0
    for size in sizes.tolist():
        mine = rows[start : start + size]
        for i in range(size - 1):
            scores[done : done + size - 1 - i] = mine[i + 1 :] @ mine[i]
            done += size - 1 - i
        start += size
    scores.sort()
    return scores


def _impostors(block: Block, ends: Counts) -> Rows:
    """The impostor scores of a block: of each row those right of its identity."""
    height, width = block.scores.shape
    starts = np.clip(ends[block.top : block.top + height] - block.left, 0, width)
    if not starts.any():
        return block.scores.reshape(-1)
    return np.concatenate([row[start:] for row, start in zip(block.scores, starts, strict=True)])
