"""What a report keeps of a set, person by person, so that runs can be drawn again alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.identification import Search


@dataclass(frozen=True)
class KeptPairs:
    """The pairs of one set.

    Args:
        scores: similarities [pairs].
        issame: True for genuine pairs, bool [pairs].
        first, second: the person of each pair's images, 0, 1, ... [pairs]; None where unknown.
    """

    scores: NDArray[np.floating]
    issame: NDArray[np.bool_]
    first: NDArray[np.integer] | None = None
    second: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        return len(self.issame)


@dataclass(frozen=True)
class KeptSearches:
    """The same probes sought in one gallery or several.

    Args:
        people: of each probe, any numbers, int64 [probes].
        galleries: what was found in each, by name; `Search.others` is not kept.
    """

    people: NDArray[np.int64]
    galleries: Mapping[str, Search]

    def __len__(self) -> int:
        return len(self.people)


@dataclass(frozen=True)
class KeptTrials:
    """Pairs of photos of one person, each photo sought in turn.

    Args:
        people: of each pair, any numbers, int64 [pairs].
        ranks: what `hits` are counted at, int64 [ranks].
        hits: of each pair's two trials, how many hit at each rank: 0, 1 or 2, [pairs, ranks].
    """

    people: NDArray[np.int64]
    ranks: NDArray[np.int64]
    hits: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.people)


Kept = KeptPairs | KeptSearches | KeptTrials
