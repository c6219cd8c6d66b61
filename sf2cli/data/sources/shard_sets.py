"""Sets of WebDataset shards to pack anew: one that sf2 packed, or tars of anyone's."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.images import BadImageError
from sf2cli.data.manifest import MANIFEST_NAME, load_manifest
from sf2cli.data.packed import PackedSet
from sf2cli.data.shard_files import ShardFiles
from sf2cli.data.sources.grouping import Names, Strings, name_order, rows_by_label
from sf2cli.data.sources.shard_samples import ShardReader
from sf2cli.data.sources.source import SourceFault, SourceImage, check_length
from sf2cli.errors import Sf2Error


class ShardSet(Protocol):
    """Some shards whose labels mean the same."""

    @property
    def title(self) -> str:
        """What the set is called."""

    @property
    def places(self) -> Sequence[Path]:
        """What it is read from."""

    @property
    def ignored(self) -> int:
        """How many samples have no image."""

    @property
    def faults(self) -> Sequence[SourceFault]:
        """What cannot be packed."""

    def identities(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Names, each once, with the rows of the images."""

    def image(self, row: int) -> SourceImage:
        """The image of a row."""


class PackedShards:
    """A set that sf2 packed, with its names and what its images were called before."""

    ignored = 0
    faults = ()

    def __init__(self, folder: Path) -> None:
        self.places = [folder]
        self._set = PackedSet.open(folder)

    @property
    def title(self) -> str:
        return self._set.manifest.name

    def identities(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        labels = array("q", self._set.labels.tobytes())
        for label, rows in rows_by_label(labels):
            yield self._set.manifest.identities[label], rows

    def image(self, row: int) -> SourceImage:
        key = self._set.source(row)
        place = f"{self.places[0]} sample {self._set.key(row)} ({key})"
        return SourceImage(key, place, lambda: self._set.read(row))


class PlainShards:
    """Tars without a manifest, or single ones out of a packed set, whose names they keep.

    Making one reads the members' names and the labels.
    """

    def __init__(self, tars: Sequence[Path]) -> None:
        self.places = tars
        self.ignored = 0
        self.faults: list[SourceFault] = []
        self._files = ShardFiles(tars)
        self._names = Names()
        self._labels, self._shards = array("i"), array("i")
        self._offsets, self._sizes = array("q"), array("q")
        self._keys = Strings()
        # With a manifest, the order is that of its class ids.
        self._ordered = False
        with console.progress(f"read {self.title}", None, unit="shards") as line:
            for number, tar in enumerate(tars):
                self._add(number, tar)
                line.advance()
        if not self._labels:
            if self.faults:
                raise self.faults[0].error
            raise Sf2Error(
                f"SOURCE {tars[0]}: no sample with an image in {len(tars)} shards",
                "Name tars of images with a .cls, .json or .txt each.",
            )
        self._name_list = list(self._names)

    @property
    def title(self) -> str:
        """The tars' common name: `faces` of `faces-000000.tar`."""
        return re.sub(r"[-_.]?\d*$", "", self.places[0].stem) or self.places[0].stem

    def identities(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        rows = dict(rows_by_label(self._labels))
        for name in self._name_list if self._ordered else name_order(self._name_list):
            label = self._names.number(name)
            if label in rows:
                yield name, rows[label]

    def image(self, row: int) -> SourceImage:
        shard, offset, size = self._shards[row], self._offsets[row], self._sizes[row]
        key, name = self._keys[row], self._name_list[self._labels[row]]
        return SourceImage(
            key if key.startswith(f"{name}/") else f"{name}/{key}",
            f"{self.places[shard]} member {key}",
            lambda: self._read(shard, offset, size),
        )

    def _add(self, number: int, tar: Path) -> None:
        names = _names_of(tar.parent, tar.name)
        if names is not None:
            self._ordered = True
            for name in names:
                self._names.number(name)
        reader = ShardReader(tar, names)
        for sample in reader.samples():
            self._labels.append(self._names.number(sample.label))
            self._shards.append(number)
            self._offsets.append(sample.offset)
            self._sizes.append(sample.size)
            self._keys.append(sample.key)
        self.ignored += reader.without_image
        self.faults += reader.faults

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        check_length(size)
        try:
            data = self._files.read(shard, offset, size)
        except OSError as failure:
            raise BadImageError(f"cannot be read ({failure.strerror})") from None
        if len(data) < size:
            raise BadImageError(f"{len(data)} of its {size} bytes are there")
        return data


def _names_of(folder: Path, file: str) -> list[str] | None:
    """The names of class ids, if `file` is a shard of the packed set in its folder."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    manifest = _manifest(folder)
    known = any(shard.file == file for shard in manifest.shards)
    return manifest.identities if known else None


# Of a thousand shards of one set, one after the other.
_manifest = lru_cache(maxsize=1)(load_manifest)
