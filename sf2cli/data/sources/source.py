"""What every source of images offers to `sf2 pack`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class SourceIdentity:
    """One identity and its image files, in a fixed order.

    Args:
        name: the identity's stable name.
        folder: where its files lie.
        files: base names of the images.
        ignored: how many other files lie beside them.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    ignored: int = 0

    def key(self, file: str) -> str:
        """The picture's name in reports: `identity/file`."""
        return f"{self.name}/{file}"


class Source(Protocol):
    """A collection of images by identity."""

    @property
    def description(self) -> dict[str, str]:
        """What the manifest says of the source: no absolute paths, no dates."""

    def identities(self) -> Iterator[SourceIdentity]:
        """The identities, each name once, always in the same order; may be called again.

        One without files is none: it only tells of the files that were ignored.

        Raises:
            Sf2Error: there is no such source, or it is not laid out as it should be.
        """
