"""A verification protocol made ready: images, pairs of them, and which pairs are genuine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.words import are, count_of


class Faces(Protocol):
    """Images by number; `data.packed.PackedSet` is one such."""

    def __len__(self) -> int: ...

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        """Image `i` resized to uint8 [image_size, image_size, channels].

        Raises:
            Sf2Error: it cannot be read or decoded; the message names it.
        """
        ...

    def source(self, i: int) -> str:
        """What image `i` is called in a report."""
        ...


@runtime_checkable
class EncodedFaces(Faces, Protocol):
    """Images whose files are at hand."""

    def read(self, i: int) -> bytes:
        """The encoded image `i`.

        Raises:
            Sf2Error: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class Repeats:
    """Pairs that a list names more than once, either way round: how many such lines there are
    beyond the first ones, and how many pairs are called both genuine and impostor; and pairs of a
    thing with itself."""

    lines: int
    contradictory: int
    selves: int

    @classmethod
    def of(
        cls,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        issame: NDArray[np.bool_],
    ) -> Repeats:
        """Count them among pairs [n] of numbers from 0 to 2^31."""
        low, high = np.minimum(first, second), np.maximum(first, second)
        keys = low.astype(np.int64) << 31 | high.astype(np.int64)
        order = np.argsort(keys, kind="stable")
        keys, kinds = keys[order], issame[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        sizes = np.diff(np.append(starts, len(keys)))
        genuine = np.add.reduceat(kinds.astype(np.int64), starts) if len(starts) else sizes
        both = int(((genuine > 0) & (genuine < sizes)).sum())
        return cls(len(keys) - len(starts), both, int((low == high).sum()))

    def notes(self) -> list[str]:
        """Sentences for a report, if there is anything to say."""
        found = []
        if self.lines:
            told = f"{count_of(self.contradictory, 'pair')} {are(self.contradictory)} called both"
            both = f", and {told} genuine and impostor" if self.contradictory else ""
            found.append(f"Lines that repeat a pair: {self.lines:,}; each counts{both}.")
        if self.selves:
            found.append(
                f"Pairs of an image or template with itself: {self.selves:,}; each counts."
            )
        return found


@dataclass(frozen=True)
class PairSet:
    """What every protocol comes down to, as the options name it.

    Args:
        name: short, for headings.
        protocol: which form the pairs had.
        source: the file or folder they came from.
        data_sha256: hash of what `hashed` says.
        hashed: what `data_sha256` is the hash of.
        faces: the images.
        first: number of each pair's first image, int32 [pairs].
        second: number of its second image, int32 [pairs].
        issame: True for genuine pairs, bool [pairs].
        all_pairs: the pairs are all i < j, in the order of numpy.triu_indices.
        folds: how the pairs are cut into ten for the accuracy.
        identities: how many there are, where that is known.
        labels: the number of each image's identity, int64 [images], where that is known.
        credit: whom to name where the images are shown.

    Raises:
        Sf2Error: there is no pair at all, or none of one kind.
    """

    name: str
    protocol: str
    source: Path
    data_sha256: str
    hashed: str
    faces: Faces
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    issame: NDArray[np.bool_]
    all_pairs: bool
    folds: Literal["contiguous", "stratified"]
    identities: int | None = None
    labels: NDArray[np.int64] | None = None
    credit: str | None = None

    def __post_init__(self) -> None:
        if self.genuine and self.impostor:
            return
        if len(self):
            missing = "impostor" if self.genuine else "genuine"
            found = f"none of the {len(self)} pairs is {missing}"
        else:
            found = f"no pairs to compare ({len(self.faces)} image(s))"
        raise Sf2Error(
            f"{self.source}: {found}",
            "Verification needs pairs of one identity (genuine) and of two (impostor).",
        )

    def __len__(self) -> int:
        return len(self.issame)

    @property
    def genuine(self) -> int:
        """The number of genuine pairs."""
        return int(np.count_nonzero(self.issame))

    @property
    def impostor(self) -> int:
        """The number of impostor pairs."""
        return len(self) - self.genuine
