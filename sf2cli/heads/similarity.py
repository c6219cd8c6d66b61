"""How similar features are to their own and to other identities' rows, as the passes saw it.

The numbers fall out of the pass over the tiles and travel with the loss: watching
them costs no second look at a cosine. With sampled negatives those of the negatives are estimates
without bias, as the loss is.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Similarity(NamedTuple):
    """Mean cosines of positives and negatives, and the shares of either that are above the
    boundary r g(cos) + b = 0, where a classifier says yes; nan where there were none. `rejected`
    is how many samples were left out as mislabelled."""

    positive: float
    negative: float
    positives_above: float
    negatives_above: float
    rejected: int


class SimilaritySums:
    """Sums over the passes since the last `take`; nothing is waited for until then."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._sums: Tensor | None = None
        self._positives = self._negatives = self._rejected = 0

    def add(self, sums: Tensor, batch: int, num_classes: int, rejected: int = 0) -> None:
        """Count one pass.

        Args:
            sums: [4] float64, over all ranks: the negatives' cosines, how many of them are above,
                the positives' cosines, how many of them are above.
            batch: samples of all ranks, without those that were left out.
            num_classes: K.
            rejected: how many those were.
        """
        self._sums = sums if self._sums is None else self._sums + sums
        self._positives += batch
        self._negatives += batch * (num_classes - 1)
        self._rejected += rejected

    def take(self) -> Similarity:
        """What was seen since the last call.

        Raises:
            ValueError: no pass was made since.
        """
        if self._sums is None:
            raise ValueError("no pass since the similarities were last taken")
        cosine, above, own_cosine, own_above = self._sums.tolist()
        nan = float("nan")
        positives, negatives = self._positives or nan, self._negatives or nan
        found = Similarity(
            own_cosine / positives,
            cosine / negatives,
            own_above / positives,
            above / negatives,
            self._rejected,
        )
        self._forget()
        return found
