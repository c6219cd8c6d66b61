"""The first look at a source: who is in it, how many images of each, and who is packed where."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from sf2cli import console
from sf2cli.data.journal import Dropped
from sf2cli.data.order import epoch_order
from sf2cli.data.sources.source import Source, SourceFault, SourceIdentity
from sf2cli.errors import Sf2Error


@dataclass
class Listing:
    """The identities with images enough, in order.

    Rows number their images: those of identity `i` are `starts[i]` ... `starts[i + 1] - 1`.
    `hashes` are Python's of the names: to read them changes no page that processes share. `dropped`
    has the other identities, `faults` what of the source could not be read, `ignored` counts what
    is no image, and `digest` tells one listing from another.
    """

    min_images: int
    names: list[str] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    hashes: array[int] = field(default_factory=lambda: array("q"))
    dropped: list[Dropped] = field(default_factory=list)
    faults: list[SourceFault] = field(default_factory=list)
    ignored: int = 0
    digest: str = ""

    @property
    def images(self) -> int:
        return self.starts[-1]

    def identities(self, source: Source) -> Iterator[SourceIdentity]:
        """The same identities of `source` again.

        Raises:
            Sf2Error: there are others now.
        """
        i = 0
        for identity in source.identities():
            count = len(identity.images)
            if count < self.min_images:
                continue
            if i == len(self.hashes) or (hash(identity.name), count) != (
                self.hashes[i],
                self.starts[i + 1] - self.starts[i],
            ):
                raise _changed(identity.name)
            yield identity
            i += 1
        if i < len(self.hashes):
            raise _changed(self.names[i])


def list_source(source: Source, min_images: int) -> Listing:
    """Go through the identities of a source, without reading an image.

    Raises:
        Sf2Error: as the source does, or no identity has `min_images` images.
    """
    listing = Listing(min_images)
    digest = hashlib.sha256()
    # Called outside the block: a source that must look through a file shows that itself.
    identities = source.identities()
    with console.progress("list", None, unit="identities") as line:
        for identity in identities:
            count = len(identity.images)
            digest.update(f"{identity.name}\n{count}\n".encode())
            listing.ignored += identity.ignored
            listing.faults += identity.faults
            if count >= min_images:
                listing.names.append(identity.name)
                listing.hashes.append(hash(identity.name))
                listing.starts.append(listing.images + count)
                line.advance()
            elif count:
                listing.dropped.append(Dropped(-1, identity.name, count))
    if not listing.names:
        raise Sf2Error(
            f"--min-images {min_images}: no identity has as many images",
            "Lower it, or leave it out.",
        )
    listing.digest = digest.hexdigest()
    return listing


@dataclass(frozen=True)
class Plan:
    """Which images are left to pack, and the set each belongs to.

    Args:
        listing: all of them.
        parts: the number of the set of each identity.
        first_rows: of each set, the first row that is not packed yet.
    """

    listing: Listing
    parts: bytes
    first_rows: tuple[int, ...]

    def begin(self, i: int) -> int:
        """How many images of identity `i` are packed already."""
        starts = self.listing.starts
        done = self.first_rows[self.parts[i]] - starts[i]
        return min(max(done, 0), starts[i + 1] - starts[i])

    @property
    def images(self) -> int:
        """How many are left."""
        starts = self.listing.starts
        return sum(starts[i + 1] - starts[i] - self.begin(i) for i in range(len(self.parts)))


def split(listing: Listing, holdout: int | None, seed: int | None) -> bytes:
    """The set of each identity: 0, or 1 for the `holdout` identities that are held out.

    Args:
        listing: the identities.
        holdout: how many are held out.
        seed: draws them; None takes the last ones.

    Raises:
        Sf2Error: none would be left.
    """
    names = len(listing.names)
    parts = bytearray(names)
    if holdout is None:
        return bytes(parts)
    if holdout >= names:
        raise Sf2Error(
            f"--holdout {holdout}: there are only {names} identities, and at least one must be left"
            " to train on",
            f"Hold out at most {names - 1}.",
        )
    drawn = range(names - holdout, names)
    for i in drawn if seed is None else epoch_order(names, seed, 0)[:holdout].tolist():
        parts[i] = 1
    return bytes(parts)


def _changed(name: str) -> Sf2Error:
    return Sf2Error(
        f"SOURCE changed while it was packed: {name} has other images now",
        "Pack it again when nothing writes to it.",
    )
