"""The highest of a stream of scores, exactly, without keeping the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.blocks import Rows

_SLACK = 1 << 16


class Highest:
    """The `count` highest scores of all that are added.

    `floor` rises as they come: a score below it can no longer be among them, and need not be added.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.floor = -np.inf
        self._parts: list[Rows] = []
        self._held = 0

    def fresh(self, scores: Rows) -> Rows:
        """A copy of those scores [...] that may be among the highest; any thread may ask."""
        flat = scores[scores >= self.floor]
        if len(flat) > self.count:
            flat = np.partition(flat, len(flat) - self.count)[len(flat) - self.count :]
        return flat

    def add(self, scores: Rows) -> None:
        """Take float32 scores [...]; they are copied."""
        wanted = scores[scores >= self.floor]
        self._parts.append(wanted)
        self._held += len(wanted)
        if self._held > 2 * self.count + _SLACK:
            self._shrink()

    def descending(self) -> Rows:
        """The `count` highest, or all where there were fewer, float32, highest first."""
        self._shrink()
        return np.sort(self._parts[0])[::-1]

    def _shrink(self) -> None:
        held = np.concatenate([*self._parts, np.empty(0, np.float32)])
        if len(held) > self.count:
            held = np.partition(held, len(held) - self.count)[len(held) - self.count :]
        if len(held) == self.count > 0:
            self.floor = float(held.min())
        self._parts, self._held = [held], len(held)


class HighestOfRows:
    """The `count` highest scores of each of `rows` rows.

    `floors` float32 [rows] rise as scores come: those below need not be added.
    """

    def __init__(self, rows: int, count: int) -> None:
        self.count = count
        self.floors = np.full(rows, -np.inf, np.float32)
        self._best = np.full((rows, count), -np.inf, np.float32)
        self._rows: list[NDArray[np.int64]] = []
        self._scores: list[Rows] = []
        self._held = 0

    def add(self, rows: NDArray[np.int64], scores: Rows) -> None:
        """Take scores [n] of the rows numbered `rows` [n]."""
        self._rows.append(rows)
        self._scores.append(scores)
        self._held += len(scores)
        if self._held > max(self._best.size, _SLACK):
            self._shrink()

    def descending(self) -> Rows:
        """[rows, count], each row from its highest score down; -inf where there were fewer."""
        self._shrink()
        return np.sort(self._best, axis=1)[:, ::-1]

    def _shrink(self) -> None:
        if not self._held:
            return
        rows, scores = np.concatenate(self._rows), np.concatenate(self._scores)
        kept = scores >= self.floors[rows]
        rows, scores = rows[kept], scores[kept]
        order = np.lexsort((-scores, rows))
        rows, scores = rows[order], scores[order]
        # How many higher ones of its row stand before each.
        place = np.arange(len(rows)) - np.searchsorted(rows, rows, side="left")
        top = place < self.count
        width = int(place[top].max(initial=-1)) + 1
        fresh = np.full((len(self._best), width), -np.inf, np.float32)
        fresh[rows[top], place[top]] = scores[top]
        both = np.concatenate([self._best, fresh], axis=1)
        self._best = np.partition(both, width, axis=1)[:, width:] if width else self._best
        self.floors = self._best.min(axis=1)
        self._rows, self._scores, self._held = [], [], 0
