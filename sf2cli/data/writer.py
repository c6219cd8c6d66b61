"""Writing a packed set: tar shards, the index, the sources and, last, the manifest.

The tars are written block by block in USTAR form with fixed times and owners. That keeps them
the same byte for byte, spares the kilobyte that a PAX header adds to each member, and gives the
offset of every image.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from array import array
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sf2cli.data.encode import StoredImage
from sf2cli.data.manifest import (
    INDEX_NAME,
    SOURCES_NAME,
    ImageFormat,
    Manifest,
    Shard,
    write_manifest,
)
from sf2cli.files import file_sha256

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


class HashedFile:
    """A file to append to that knows its length and, in the end, its sha256."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._stream = path.open("xb")

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._stream.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def finish(self) -> str:
        """Write through to the disk and close; the content's sha256 in hex."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Close without care for the content."""
        # On a full disk the buffered rest cannot be written: the first error is the one to tell.
        with suppress(OSError):
            self._stream.close()


class SetWriter:
    """Writes one packed set into an empty folder; `finish` makes it a set.

    A context manager: left without `finish`, it closes its files and writes no manifest.

    Args:
        folder: where to write; empty.
        name: the set's name, the shards' prefix.
        shard_bytes: a shard is closed before it would grow over this; one sample always fits.
    """

    def __init__(self, folder: Path, name: str, shard_bytes: int) -> None:
        self.folder = folder
        self.name = name
        self.shard_bytes = shard_bytes
        self.bytes = 0
        self._sources = HashedFile(folder / SOURCES_NAME)
        self._tar: HashedFile | None = None
        self._tar_samples = 0
        self._shards: list[Shard] = []
        self._rows = array("q")
        self._identities: list[str] = []
        self._counts: list[int] = []
        self._sizes: set[tuple[int, int]] = set()
        self._all_grey = True

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sources.abandon()
        if self._tar is not None:
            self._tar.abandon()

    @property
    def samples(self) -> int:
        return len(self._rows) // 4

    @property
    def num_identities(self) -> int:
        return len(self._identities)

    @property
    def num_shards(self) -> int:
        return len(self._shards)

    def add_identity(self, name: str) -> None:
        """Open the next class id; the images that follow belong to it."""
        self._identities.append(name)
        self._counts.append(0)

    def add_image(self, image: StoredImage, source: str) -> None:
        """Append one image of the last identity; `source` is its name in reports."""
        label = len(self._identities) - 1
        key = f"{self.samples:09d}"
        class_member = _member(f"{key}.cls", str(label).encode("ascii"))
        image_member = _member(f"{key}.{image.kind}", image.data)
        tar = self._room_for(len(class_member) + len(image_member))
        tar.write(class_member)
        offset = tar.bytes + _BLOCK
        tar.write(image_member)
        self._sources.write(f"{source}\n".encode())
        self._rows.extend((len(self._shards), offset, len(image.data), label))
        self._tar_samples += 1
        self._counts[label] += 1
        self._sizes.add((image.height, image.width))
        self._all_grey = self._all_grey and image.grey

    def finish(self, made_by: dict[str, Any]) -> Manifest:
        """Write what is left, the manifest last.

        Args:
            made_by: how the set was made, for the manifest.
        """
        self._close_tar()
        manifest = Manifest(
            name=self.name,
            samples=self.samples,
            identities=self._identities,
            samples_per_identity=self._counts,
            image=ImageFormat(
                size=next(iter(self._sizes)) if len(self._sizes) == 1 else None,
                colour="L" if self._all_grey else "RGB",
            ),
            shards=self._shards,
            index_sha256=self._write_index(),
            sources_sha256=self._sources.finish(),
            made_by=made_by,
        )
        write_manifest(self.folder, manifest)
        return manifest

    def _room_for(self, size: int) -> HashedFile:
        if self._tar is not None and self._tar.bytes + size + len(_END) > self.shard_bytes:
            self._close_tar()
        if self._tar is None:
            self._tar = HashedFile(self.folder / f"{self.name}-{len(self._shards):06d}.tar")
        return self._tar

    def _close_tar(self) -> None:
        if self._tar is None:
            return
        self._tar.write(_END)
        self.bytes += self._tar.bytes
        self._shards.append(
            Shard(
                file=self._tar.path.name,
                samples=self._tar_samples,
                bytes=self._tar.bytes,
                sha256=self._tar.finish(),
            )
        )
        self._tar, self._tar_samples = None, 0

    def _write_index(self) -> str:
        rows = np.frombuffer(self._rows, dtype=np.int64).reshape(-1, 4)
        path = self.folder / INDEX_NAME
        with path.open("xb") as stream:
            np.save(stream, rows)
            stream.flush()
            os.fsync(stream.fileno())
        return file_sha256(path)


def _member(name: str, data: bytes) -> bytes:
    """One tar member: header, data, padding to a block."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    header.mode = 0o444
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)
