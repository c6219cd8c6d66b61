"""Whether a model does better on a set with red and blue exchanged: then its colours are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embedder import Embedder
from sf2cli.evaluation.kept import KeptPairs
from sf2cli.evaluation.pair_set import Faces, PairSet
from sf2cli.evaluation.paired import paired_bootstrap
from sf2cli.evaluation.scoring import listed_cosines

# Pairs of each kind that are tried, and how many there must be.
_TRIED = 100
_FEWEST = 20
_WORTH_TELLING = 0.005


@dataclass(frozen=True)
class _Some:
    """Some images of a set, with red and blue exchanged or not."""

    faces: Faces
    numbers: NDArray[np.int64]
    exchanged: bool

    def __len__(self) -> int:
        return len(self.numbers)

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        pixels = self.faces.decode(int(self.numbers[i]), image_size, channels)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.exchanged else pixels

    def source(self, i: int) -> str:
        return self.faces.source(int(self.numbers[i]))


def colour_warnings(embedder: Embedder, pairs: PairSet) -> list[str]:
    """Try the exchange on a sample of the pairs; a sentence if AUC rises beyond chance."""
    card = embedder.card
    if card.channels != 3 or card.kind == "features":
        return []
    chosen = np.concatenate([_spread(pairs.issame), _spread(~pairs.issame)])
    issame = pairs.issame[chosen]
    if min(issame.sum(), (~issame).sum()) < _FEWEST:
        return []
    numbers, places = np.unique(
        np.stack([pairs.first[chosen], pairs.second[chosen]]), return_inverse=True
    )
    first, second = places.reshape(2, -1)
    try:
        if not _in_colour(pairs.faces, numbers):
            return []
        runs = []
        for exchanged in (False, True):
            some = _Some(pairs.faces, numbers, exchanged)
            rows = embedder.embed(some, f"{pairs.name}: try the colours")
            runs.append(KeptPairs(listed_cosines(rows, first, second), issame))
    except Sf2Error:
        # What cannot be read is named when the whole set is embedded.
        return []
    tried = paired_bootstrap(runs, fars=())
    gain = tried.differences[0][1]
    if gain is None or gain.low is None or gain.low <= 0 or gain.value < _WORTH_TELLING:
        return []
    before, after = tried.values[:, 1]
    order = "RGB" if card.preprocessing.colour == "BGR" else "BGR"
    return [
        f"with red and blue exchanged AUC rises from {before:.4f} to {after:.4f} on"
        f" {len(chosen)} pairs: the images or the model have the other order; try --colour {order}."
    ]


def _spread(kind: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Up to _TRIED numbers of the pairs of a kind, evenly spread."""
    members = np.flatnonzero(kind)
    count = min(len(members), _TRIED)
    return members[np.arange(count) * len(members) // max(count, 1)]


def _in_colour(faces: Faces, numbers: NDArray[np.int64]) -> bool:
    """Whether any of the first few images is more than grey."""
    for i in numbers[:16]:
        pixels = faces.decode(int(i), 32, 3)
        if (pixels[:, :, 0] != pixels[:, :, 2]).any():
            return True
    return False
