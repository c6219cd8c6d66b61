"""Writing a packed set: tar shards, the index, the sources and, last, the manifest.

What is known of an image goes to the disk with it, and what a finished shard adds to the set into
the journal: memory does not grow with the images, and a later writer goes on after the last
finished shard.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from sf2cli.data.direct_file import DirectFile
from sf2cli.data.encode import StoredImage
from sf2cli.data.growing import GrowingIndex, reopened
from sf2cli.data.journal import Dropped, FinishedShard, Journal, Skipped, Tally
from sf2cli.data.layout import Layout, sample_key
from sf2cli.data.manifest import (
    INDEX_NAME,
    SOURCES_NAME,
    ImageFormat,
    Manifest,
    Shard,
    write_manifest,
)
from sf2cli.data.neighbours import write_neighbours
from sf2cli.data.tar_member import END, sample_members
from sf2cli.files import file_sha256, sync


@dataclass
class _Open:
    """The shard that is being filled: what it will add to the set."""

    identities: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    all_grey: bool = True


class SetWriter:
    """Writes one packed set; `finish` makes it a set.

    A context manager: left without `finish`, it keeps what the journal tells of and writes no
    manifest.

    Args:
        folder: where to write; empty, or as a writer with the same journal left it.
        name: the set's name, the shards' prefix.
        shard_bytes: a shard is closed before it would grow over this; one sample always fits.
        journal: of this set; the rows of the index lie beside the folder until they are whole.
    """

    def __init__(self, folder: Path, name: str, shard_bytes: int, journal: Journal) -> None:
        self.folder = folder
        self.name = name
        self.tally = Tally()
        for done in journal.finished:
            self.tally.add(done)
        self.samples = self.tally.samples
        self._journal = journal
        self._label = len(self.tally.identities) - 1
        self._identity = self.tally.identities[-1] if self.tally.identities else ""
        self._identity_row = 0
        # Identities are opened with their first image: until then this one is only announced.
        self._opened = True
        self._skipped: list[Skipped] = []
        self._dropped: list[Dropped] = []
        self._sources = reopened(folder / SOURCES_NAME, self.tally.sources_bytes)
        self._index = GrowingIndex(folder.parent, self.samples)
        self._layout = Layout(shard_bytes)
        self._shard = len(self.tally.shards)
        self._tar: DirectFile | None = None
        self._open = _Open()
        self._thread = ThreadPoolExecutor(1)
        self._closing: Future[FinishedShard] | None = None

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A shard that is being closed is finished yet.
        self._thread.shutdown()
        for stream in (self._sources, self._index.rows):
            # On a full disk the buffered rest cannot be written: the first error is the one to
            # tell.
            with suppress(OSError):
                stream.close()
        if self._tar is not None:
            self._tar.close()
            self._tar.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._journal.close()

    def add_identity(self, name: str, row: int) -> None:
        """Announce the next class id, which the images that follow belong to.

        Args:
            name: of the identity.
            row: of its first image in the packing's order.
        """
        self._identity, self._identity_row, self._opened = name, row, False

    def add_image(self, image: StoredImage, source: str, row: int) -> None:
        """Append one image of the last identity.

        Args:
            image: what to store.
            source: its name in reports.
            row: its place in the packing's order.

        Raises:
            OSError: the disk is full.
        """
        label = b"%d" % (self._label + (not self._opened))
        offset = self._layout.add(len(label), len(image.data))
        if offset is None:
            self._close_tar(row if self._opened else self._identity_row)
            offset = self._layout.add(len(label), len(image.data))
            assert offset is not None
        if self._tar is None:
            path = self.folder / f"{self.name}-{self._shard:06d}.tar"
            self._tar = DirectFile(path, self._thread)
        if not self._opened:
            self._label += 1
            self._opened = True
        key = sample_key(self.samples)
        self._tar.write(sample_members(key, label, image.kind, image.data))
        self._sources.write(f"{source}\n".encode())
        self._index.add(self._shard, offset, len(image.data), self._label)
        self.samples += 1
        self._note(image)

    def skip(self, image: Skipped) -> None:
        """Note an image that could not be read."""
        self._skipped.append(image)

    def drop(self, identity: Dropped) -> None:
        """Note an identity that is left out."""
        self._dropped.append(identity)

    def settle(self, rows: int) -> None:
        """Write the last shard; `tally` is complete then.

        Args:
            rows: images of the source, the row after the last one.

        Raises:
            OSError: the disk is full.
        """
        self._close_tar(rows)
        self._wait()
        # Of images after the last good one, where the journal had it already.
        self.tally.skipped += self._skipped
        self.tally.dropped += self._dropped
        self._skipped, self._dropped = [], []

    def finish(self, made_by: dict[str, Any]) -> Manifest:
        """Write what goes beside the settled shards, the manifest last.

        Args:
            made_by: how the set was made, for the manifest.

        Raises:
            OSError: the disk is full.
        """
        tally = self.tally
        self._sources.close()
        sync(self.folder / SOURCES_NAME)
        (size,) = tally.sizes if len(tally.sizes) == 1 else (None,)
        manifest = Manifest(
            name=self.name,
            samples=self.samples,
            identities=tally.identities,
            samples_per_identity=tally.counts,
            image=ImageFormat(size=size, colour="L" if tally.all_grey else "RGB"),
            shards=tally.shards,
            index_sha256=self._index.write(self.folder / INDEX_NAME),
            sources_sha256=file_sha256(self.folder / SOURCES_NAME),
            made_by=made_by,
        )
        write_neighbours(self.folder, manifest)
        write_manifest(self.folder, manifest)
        return manifest

    def _note(self, image: StoredImage) -> None:
        shard = self._open
        if not shard.identities or shard.identities[-1] != self._identity:
            shard.identities.append(self._identity)
            shard.counts.append(0)
        shard.counts[-1] += 1
        shard.all_grey = shard.all_grey and image.grey
        if len(shard.sizes) < 2:
            shard.sizes.add((image.height, image.width))

    def _close_tar(self, row: int) -> None:
        """End the shard, of which everything before `row` is settled."""
        if self._tar is None:
            return
        self._tar.write(END)
        for stream in (self._sources, self._index.rows):
            stream.flush()
        self._wait()
        tar, ended = self._tar, self._open
        skipped = [one for one in self._skipped if one.row < row]
        dropped = [one for one in self._dropped if one.row < row]
        self._skipped = self._skipped[len(skipped) :]
        self._dropped = self._dropped[len(dropped) :]
        size, sources_bytes = self._layout.bytes, self._sources.tell()

        def close() -> FinishedShard:
            try:
                sha256 = tar.finish()
            except OSError:
                # A full disk has better use for its room.
                tar.path.unlink(missing_ok=True)
                raise
            for stream in (self._sources, self._index.rows):
                os.fsync(stream.fileno())
            done = FinishedShard(
                shard=Shard(
                    file=tar.path.name, samples=sum(ended.counts), bytes=size, sha256=sha256
                ),
                row=row,
                identities=list(zip(ended.identities, ended.counts, strict=True)),
                skipped=skipped,
                dropped=dropped,
                sources_bytes=sources_bytes,
                sizes=sorted(ended.sizes),
                all_grey=ended.all_grey,
            )
            self._journal.append(done)
            return done

        # First, so that an interruption between the two does not remove a shard that is finished.
        self._tar, self._open = None, _Open()
        self._closing = self._thread.submit(close)
        self._shard += 1
        self._layout.start_shard()

    def _wait(self) -> None:
        """Until the shard that is being closed is on the disk; one at a time, for memory's sake."""
        if self._closing is not None:
            self.tally.add(self._closing.result())
            self._closing = None
