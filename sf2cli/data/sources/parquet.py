"""Parquet with embedded images, as the Hugging Face hub ships faces.

An identity is named by its label: the class's name where the file has them, else the text or the
number. Where the rows of an identity lie together, images are read by row groups; where they do
not, every image is copied once, in the order of the rows, into a file without a name in TMPDIR.
"""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.images import BadImageError
from sf2cli.data.sources.grouping import Names, Strings, name_order, rows_by_label
from sf2cli.data.sources.parquet_file import ParquetFile
from sf2cli.data.sources.source import (
    SourceIdentity,
    SourceImage,
    SourceImages,
    check_length,
    checked_name,
    shown_name,
)
from sf2cli.errors import Sf2Error

# As many row groups are kept; a group is read at most so many times before all are copied.
_KEPT = 2
_TIMES = 2


class ParquetSource:
    """The images of a file, of the files that a pattern with `*` names, or of a folder of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [ParquetFile(file) for file in _files(path)]
        groups = [
            (file, group, rows)
            for file in self._files
            for group, rows in enumerate(file.rows_of_groups)
        ]
        self._groups = [(file, group) for file, group, _ in groups]
        # Row i lies in the group before the first that starts after it.
        self._starts: list[int] = [0, *accumulate(rows for _, _, rows in groups)]
        sizes = accumulate((sum(file.rows_of_groups) for file in self._files), initial=0)
        self._first_row = dict(zip([file.path for file in self._files], sizes, strict=False))
        self._names, self._labels, self._titles = Names(), array("i"), Strings()
        self._copy: _Copy | None = None
        self._images = lru_cache(maxsize=_KEPT)(self._images_of)

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "parquet", "name": shown_name(self.path)}

    @property
    def places(self) -> list[Path]:
        return [file.path for file in self._files]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: a file is none, has not the columns, or a row has no label.
        """
        if not self._labels:
            self._list()
        rows = dict(rows_by_label(self._labels))
        names = list(self._names)
        used = set(names)
        order = [name for name in self._class_order() if name in used] or name_order(names)
        grouped = [(name, rows[self._names.number(name)]) for name in order]
        if self._copy is None and self._reads(grouped) > _TIMES * len(self._groups):
            self._copy = _Copy(self)
        return (
            SourceIdentity(name, SourceImages(numbers, self._image(name)))
            for name, numbers in grouped
        )

    def rows(self) -> Iterator[bytes | None]:
        """Every image in the order of the rows."""
        for group in range(len(self._groups)):
            images = self._images_of(group)
            for row in range(len(images)):
                yield images[row].as_py()

    def __len__(self) -> int:
        return self._starts[-1]

    def _list(self) -> None:
        with console.progress("read labels", len(self), unit="rows") as line:
            for file, group in self._groups:
                for value, title in file.labels(group):
                    name = self._name(file, value)
                    self._labels.append(self._names.number(name))
                    self._titles.append(checked_name(title, str(file.path)))
                line.advance(file.rows_of_groups[group])
        if not self._labels:
            raise Sf2Error(f"SOURCE {self.path}: no rows in it")

    def _name(self, file: ParquetFile, value: str | int) -> str:
        names = file.class_names
        if names is None or isinstance(value, str):
            return checked_name(str(value), str(file.path))
        if not 0 <= value < len(names):
            raise Sf2Error(
                f"SOURCE {file.path}: the class {value} has no name; it names {len(names)}"
            )
        return checked_name(names[value], str(file.path))

    def _class_order(self) -> list[str]:
        """The names of the classes, if all files name the same ones."""
        first = self._files[0].class_names
        return first if first and all(file.class_names == first for file in self._files) else []

    def _reads(self, grouped: list[tuple[str, NDArray[np.int64]]]) -> int:
        """How often a row group would be read, were the images read identity by identity."""
        reads, kept = 0, list[int]()
        for _, rows in grouped:
            groups = np.searchsorted(self._starts, rows, side="right") - 1
            for group in groups[np.flatnonzero(np.diff(groups, prepend=-1))].tolist():
                if group in kept:
                    kept.remove(group)
                else:
                    reads += 1
                kept = [*kept, group][-_KEPT:]
        return reads

    def _image(self, name: str) -> Any:
        def image(row: int) -> SourceImage:
            row = int(row)
            title = self._titles[row] or str(row)
            file = self._groups[self._group(row)][0]
            return SourceImage(
                title if title.startswith(f"{name}/") else f"{name}/{title}",
                f"{file.path} row {row - self._first_row[file.path]}",
                lambda: self._read(row),
            )

        return image

    def _group(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    def _images_of(self, group: int) -> Any:
        file, number = self._groups[group]
        return file.images(number)

    def _read(self, row: int) -> bytes:
        if self._copy is not None:
            data = self._copy.read(row)
        else:
            group = self._group(row)
            data = self._images(group)[row - self._starts[group]].as_py()
        if data is None:
            raise BadImageError("not in the file, which has only a path for it")
        check_length(len(data))
        return data


class _Copy:
    """All images of a source, one after the other in a file that ends with the process."""

    def __init__(self, source: ParquetSource) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._ends = array("q", [0])
        self._there = bytearray()
        try:
            with console.progress("copy images", len(source), unit="rows") as line:
                for data in source.rows():
                    self._file.write(data or b"")
                    self._ends.append(self._ends[-1] + len(data or b""))
                    self._there.append(data is not None)
                    line.advance()
            self._file.flush()
        except OSError as failure:
            if failure.errno != errno.ENOSPC:
                raise
            raise Sf2Error(
                f"SOURCE {source.path}: its rows are not in the order of the labels, and"
                f" {tempfile.gettempdir()} is too small for a copy of the images",
                "Name a larger folder in the variable TMPDIR, or sort the rows by label.",
            ) from None

    def read(self, row: int) -> bytes | None:
        """The image of a row."""
        if not self._there[row]:
            return None
        start, stop = self._ends[row], self._ends[row + 1]
        return os.pread(self._file.fileno(), stop - start, start)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    elif "*" in path.name:
        found = sorted(path.parent.glob(path.name))
    else:
        found = [path]
    if not found:
        raise Sf2Error(f"SOURCE {path}: no .parquet file in it", "Name a file or a folder of them.")
    return found


def is_parquet(path: Path) -> bool:
    """Whether SOURCE is a Parquet file, a pattern for some, or a folder with some close by."""
    if path.is_dir():
        return any(any(path.glob(pattern)) for pattern in ("*.parquet", "*/*.parquet"))
    return path.suffix == ".parquet"
