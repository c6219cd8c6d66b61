"""What every source of images offers to `sf2 pack`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError
from sf2cli.errors import Sf2Error

SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".pnm", ".bmp", ".webp")
# The bytes of MAX_PIXELS pixels stored plainly, and some: no image that can be decoded is longer.
MAX_IMAGE_BYTES = 256_000_000


class SourceImage(NamedTuple):
    """A reference to one encoded image.

    Args:
        key: its name in reports and in sources.txt, `identity/file`.
        place: where its bytes lie, for messages.
        read: gives them. Raises BadImageError where they cannot be had.
    """

    key: str
    place: str
    read: Callable[[], bytes]


class SourceImages:
    """The images of an identity in a fixed order, each made when it is asked for.

    Only `rows` stay in memory, be there millions: an array of numbers will do.

    Args:
        rows: something short for each image.
        image: makes the image of a row.
    """

    def __init__(
        self, rows: Sequence[Any] | NDArray[Any], image: Callable[[Any], SourceImage]
    ) -> None:
        self._rows, self._image = rows, image

    def chosen(self, positions: Iterable[int]) -> SourceImages:
        """Those at `positions` alone."""
        return SourceImages([self._rows[i] for i in positions], self._image)

    def changed(self, change: Callable[[SourceImage], SourceImage]) -> SourceImages:
        """Each of them as `change` makes it."""
        return SourceImages(self._rows, lambda row: change(self._image(row)))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[SourceImage]:
        return map(self._image, self._rows)

    def between(self, start: int, stop: int) -> Iterator[SourceImage]:
        """The images `start` ... `stop`-1; no other is made."""
        rows = self._rows[start:stop]
        # Plain numbers: to work with numpy's one by one takes several times as long.
        return map(self._image, rows.tolist() if isinstance(rows, np.ndarray) else rows)


class SourceFault(NamedTuple):
    """A part of the source that cannot be packed: its name in reports, and the error it is."""

    source: str
    error: Sf2Error


@dataclass(frozen=True)
class SourceIdentity:
    """One identity, by its stable name, and its images.

    `ignored` counts what is no image, `faults` are the parts that should be and cannot be read.
    """

    name: str
    images: SourceImages
    ignored: int = 0
    faults: tuple[SourceFault, ...] = ()


class Source(Protocol):
    """A collection of images by identity."""

    @property
    def description(self) -> dict[str, Any]:
        """What the manifest says of the source: no absolute paths, no dates."""

    @property
    def places(self) -> Sequence[Path]:
        """The files and folders it is read from, which OUT may not replace."""

    def identities(self) -> Iterator[SourceIdentity]:
        """The identities, each name once, always in the same order; may be called again.

        One without images is none: it only tells of what was ignored or faulty.

        Raises:
            Sf2Error: there is no such source, or it is not laid out as it should be.
        """


def ignored_only(count: int, faults: Sequence[SourceFault] = ()) -> SourceIdentity:
    """The identity that tells of `count` things that are no images, and of faults."""
    return SourceIdentity("", SourceImages((), _no_image), count, tuple(faults))


def source_fault(name: str, error: Sf2Error) -> SourceFault:
    """A fault by a name that may hold anything."""
    return SourceFault(name.encode("utf-8", "replace").decode().replace("\n", "?"), error)


def shown_name(path: Path) -> str:
    """The last component of a path, as text that the manifest can hold."""
    return os.fsencode(path.absolute().name).decode("utf-8", "replace")


def checked_name(name: str, where: str) -> str:
    """`name` if the manifest and sources.txt can hold it.

    Raises:
        Sf2Error: it is not UTF-8, or holds a line break.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "surrogateescape")
        raise Sf2Error(
            f"SOURCE: in {where!r} the name {raw!r} is not UTF-8", "Rename it."
        ) from None
    if "\n" in name:
        raise Sf2Error(f"SOURCE: in {where} the name {name!r} holds a line break", "Rename it.")
    return name


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImageError: it cannot be read, or is too long to be an image.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_IMAGE_BYTES + 1)
    except OSError as failure:
        raise BadImageError(f"cannot be read ({failure.strerror})") from None
    check_length(len(data))
    return data


def check_length(length: int) -> None:
    """Raises BadImageError if no image is `length` bytes long."""
    if length > MAX_IMAGE_BYTES:
        raise BadImageError(f"over the limit of {MAX_IMAGE_BYTES} bytes for an image")


def _no_image(row: Any) -> SourceImage:
    raise AssertionError(row)


def joined(parts: Sequence[SourceImages]) -> SourceImages:
    """The images of several, one after the other."""
    rows = [(part, row) for part in parts for row in part._rows]
    return SourceImages(rows, lambda row: row[0]._image(row[1]))
