"""A packed set, opened for reading: any sample by its number."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError, decode_image, resize
from sf2cli.data.manifest import INDEX_NAME, SOURCES_NAME, Manifest, load_manifest
from sf2cli.data.shard_files import ShardFiles
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256

_SHARD, _OFFSET, _SIZE, _LABEL = range(4)
_REMEDY = "Copy the set again, or pack it again with --overwrite."


class PackedSet:
    """Samples 0 ... len-1 of a packed set. Pickles as its folder, so processes share the pages.

    Make one with `open`, which checks it; the constructor trusts the folder.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._index: NDArray[np.int64] = open_memmap(folder / INDEX_NAME, mode="r")
        self._files = ShardFiles([folder / shard.file for shard in manifest.shards])

    @classmethod
    def open(cls, folder: Path) -> PackedSet:
        """Open a set after comparing shards, index and sources with the manifest.

        Raises:
            Sf2Error: no set there, or a part of it is missing, cut short or another one's.
        """
        manifest = load_manifest(folder)
        for shard in manifest.shards:
            _check_size(folder / shard.file, shard.bytes)
        _check_hash(folder / INDEX_NAME, manifest.index_sha256)
        _check_hash(folder / SOURCES_NAME, manifest.sources_sha256)
        try:
            packed = cls(folder, manifest)
        except ValueError as failure:
            raise Sf2Error(f"{folder / INDEX_NAME}: no index ({failure})", _REMEDY) from None
        packed._check_index()
        return packed

    def __len__(self) -> int:
        return self.manifest.samples

    def __reduce__(self) -> tuple[type[PackedSet], tuple[Path, Manifest]]:
        return type(self), (self.folder, self.manifest)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class id of every sample, int64 [samples], in memory."""
        return np.array(self._index[:, _LABEL])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The length of every encoded image in bytes, int64 [samples], in memory."""
        return np.array(self._index[:, _SIZE])

    def label(self, i: int) -> int:
        """The class id of sample `i`."""
        return int(self._index[i, _LABEL])

    def key(self, i: int) -> str:
        """Sample `i`'s key in its tar."""
        return f"{i:09d}"

    def source(self, i: int) -> str:
        """What sample `i` was called before packing, as `identity/file`."""
        start = int(self._source_ends[i - 1]) + 1 if i else 0
        line: bytes = self._source_bytes[start : int(self._source_ends[i])].tobytes()
        return line.decode("utf-8")

    def read(self, i: int) -> bytes:
        """The encoded image of sample `i`.

        Raises:
            Sf2Error: the shard cannot be read or ends before the image does.
        """
        shard, offset, size, _ = (int(value) for value in self._index[i])
        try:
            data = self._files.read(shard, offset, size)
        except OSError as failure:
            raise Sf2Error(f"{self._where(i)} cannot be read ({failure.strerror})") from None
        if len(data) != size:
            raise Sf2Error(f"{self._where(i)}: {len(data)} of its {size} bytes are there", _REMEDY)
        return data

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        """The pixels of sample `i`, resized where its size differs.

        Args:
            i: 0 ... samples-1.
            image_size: edge in pixels.
            channels: 3 for RGB, 1 for grey.

        Returns:
            uint8 [image_size, image_size, channels].

        Raises:
            Sf2Error: it cannot be read or decoded.
        """
        try:
            return resize(decode_image(self.read(i), channels), image_size)
        except BadImageError as failure:
            raise Sf2Error(f"{self._where(i)}: {failure}", _REMEDY) from None

    def _where(self, i: int) -> str:
        shard = self.manifest.shards[int(self._index[i, _SHARD])].file
        return f"packed set {self.folder}: sample {self.key(i)} of {shard} ({self.source(i)})"

    @cached_property
    def _source_bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self.folder / SOURCES_NAME, dtype=np.uint8, mode="r")

    @cached_property
    def _source_ends(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._source_bytes == ord("\n"))

    def _check_index(self) -> None:
        """The index fits the manifest: a wrong row would read another set's bytes."""
        manifest, index = self.manifest, self._index
        upper = (len(manifest.shards), None, None, manifest.num_identities)
        good = (
            index.dtype == np.int64
            and index.shape == (manifest.samples, 4)
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
