"""A packed set, opened for reading: any sample by its number."""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError, decode_into
from sf2cli.data.layout import sample_key
from sf2cli.data.manifest import INDEX_NAME, SOURCES_NAME, Manifest, load_manifest
from sf2cli.data.shard_files import ShardFiles
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256

_SHARD, _OFFSET, _SIZE, _LABEL = range(4)
_ROW = struct.Struct("=4q")
_PIECE = 1 << 24
_REMEDY = "Copy the set again, or pack it again with --overwrite."


class BadSampleError(Sf2Error):
    """One sample is damaged; the others may be good."""


class PackedSet:
    """Samples 0 ... len-1 of a packed set. Pickles as its folder, so processes share the pages.

    Make one with `open` or `open_index`, which check it; the constructor trusts the folder.

    Args:
        folder: of manifest, index and sources.
        files: the shards; by default they lie in `folder`.
        title: what messages call the set.
        window: how many shards are shuffled together; None is all of them.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        files: ShardFiles | None = None,
        title: str | None = None,
        window: int | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.files = files or ShardFiles([folder / shard.file for shard in manifest.shards])
        self.title = title or f"packed set {folder}"
        self.window = window
        self._rows = ShardFiles([folder / INDEX_NAME])
        self._first_row: int = self._index().offset  # type: ignore[attr-defined]

    @classmethod
    def open(cls, folder: Path) -> PackedSet:
        """Open a set after comparing shards, index and sources with the manifest.

        Raises:
            Sf2Error: no set there, or a part of it is missing, cut short or another one's.
        """
        manifest = load_manifest(folder)
        for shard in manifest.shards:
            _check_size(folder / shard.file, shard.bytes)
        return cls.open_index(folder, manifest)

    @classmethod
    def open_index(
        cls,
        folder: Path,
        manifest: Manifest,
        files: ShardFiles | None = None,
        title: str | None = None,
        window: int | None = None,
    ) -> PackedSet:
        """Open a set after comparing index and sources, but not the shards, with the manifest.

        Raises:
            Sf2Error: one of the two is missing, cut short or another set's.
        """
        _check_hash(folder / INDEX_NAME, manifest.index_sha256)
        _check_hash(folder / SOURCES_NAME, manifest.sources_sha256)
        try:
            packed = cls(folder, manifest, files, title, window)
        except Exception as failure:
            # numpy reads the file's header as Python, which may be wrong in any way.
            raise Sf2Error(f"{folder / INDEX_NAME}: no index ({failure})", _REMEDY) from None
        packed._check_index()
        return packed

    def __len__(self) -> int:
        return self.manifest.samples

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.manifest, self.files, self.title, self.window)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class id of every sample, int64 [samples], in memory."""
        return np.array(self._index()[:, _LABEL])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The length of every encoded image in bytes, int64 [samples], in memory."""
        return np.array(self._index()[:, _SIZE])

    def label(self, i: int) -> int:
        """The class id of sample `i`."""
        return self.row(i)[_LABEL]

    def key(self, i: int) -> str:
        """Sample `i`'s key in its tar."""
        return sample_key(i)

    def source(self, i: int) -> str:
        """What sample `i` was called before packing, as `identity/file`."""
        start = int(self._source_ends[i - 1]) + 1 if i else 0
        line: bytes = self._source_bytes[start : int(self._source_ends[i])].tobytes()
        return line.decode("utf-8")

    def read(self, i: int) -> bytes:
        """The encoded image of sample `i`.

        Raises:
            BadSampleError: the shard ends before the image does.
            Sf2Error: the shard cannot be read.
        """
        shard, offset, size, _ = self.row(i)
        try:
            data = self.files.read(shard, offset, size)
        except OSError as failure:
            raise Sf2Error(f"{self._where(i)} cannot be read ({failure.strerror})") from None
        if len(data) != size:
            raise BadSampleError(
                f"{self._where(i)}: {len(data)} of its {size} bytes are there", _REMEDY
            )
        return data

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        """The pixels of sample `i`, uint8 [image_size, image_size, channels]; see `decode_into`."""
        pixels = np.empty((image_size, image_size, channels), dtype=np.uint8)
        self.decode_into(i, pixels)
        return pixels

    def decode_into(self, i: int, out: NDArray[np.uint8]) -> None:
        """Fill `out` with the pixels of sample `i`, resized where its size differs.

        Args:
            i: 0 ... samples-1.
            out: uint8 [S, S, C], C-contiguous; C = 3 for RGB, 1 for grey.

        Raises:
            BadSampleError: its bytes are not all there, or are no image.
            Sf2Error: the shard cannot be read.
        """
        try:
            decode_into(self.read(i), out)
        except BadImageError as failure:
            raise BadSampleError(f"{self._where(i)}: {failure}", _REMEDY) from None

    def row(self, i: int) -> tuple[int, int, int, int]:
        """Shard, offset, size and class id of sample `i`.

        Read and not mapped: in an epoch each process would come to hold the whole index.
        """
        try:
            row = self._rows.read(0, self._first_row + _ROW.size * i, _ROW.size)
            shard, offset, size, label = _ROW.unpack(row)
        except (OSError, struct.error):
            raise Sf2Error(f"{self.folder / INDEX_NAME} cannot be read any more", _REMEDY) from None
        return shard, offset, size, label

    def _index(self) -> NDArray[np.int64]:
        """All rows, int64 [samples, 4], mapped for as long as the result is held."""
        return open_memmap(self.folder / INDEX_NAME, mode="r")

    def _where(self, i: int) -> str:
        shard = self.manifest.shards[self.row(i)[_SHARD]].file
        return f"{self.title}: sample {self.key(i)} of {shard} ({self.source(i)})"

    @cached_property
    def _source_bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self.folder / SOURCES_NAME, dtype=np.uint8, mode="r")

    @cached_property
    def _source_ends(self) -> NDArray[np.int64]:
        # Piece by piece: a comparison takes as much memory as what is compared.
        pieces = range(0, len(self._source_bytes), _PIECE)
        found = (self._source_bytes[start : start + _PIECE] == ord("\n") for start in pieces)
        ends = [np.flatnonzero(piece) + start for start, piece in zip(pieces, found, strict=True)]
        return np.concatenate(ends)

    def _check_index(self) -> None:
        """The index fits the manifest: a wrong row would read another set's bytes."""
        manifest, index = self.manifest, self._index()
        upper = (len(manifest.shards), None, None, manifest.num_identities)
        good = (
            index.dtype == np.int64
            and index.shape == (manifest.samples, 4)
            and index.flags.c_contiguous
            and all(int(index[:, column].min()) >= 0 for column in range(4))
            and all(
                limit is None or int(index[:, column].max()) < limit
                for column, limit in enumerate(upper)
            )
        )
        if not good:
            raise Sf2Error(f"{self.folder / INDEX_NAME} does not fit the manifest", _REMEDY)


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except OSError:
        raise Sf2Error(f"{path} is missing; the manifest names it", _REMEDY) from None
    if found != expected:
        raise Sf2Error(
            f"{path} has {found} bytes, where the manifest says {expected}: it was cut short or"
            " is another set's",
            _REMEDY,
        )


def _check_hash(path: Path, expected: str) -> None:
    try:
        found = file_sha256(path)
    except OSError as failure:
        raise Sf2Error(f"{path} cannot be read ({failure.strerror})", _REMEDY) from None
    if found != expected:
        raise Sf2Error(
            f"{path} has sha256 {found[:12]}..., where the manifest says {expected[:12]}...",
            _REMEDY,
        )
