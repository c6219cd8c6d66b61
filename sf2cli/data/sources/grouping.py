"""Grouping the images of a big file by identity, in a few bytes an image."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error

_AHEAD = 1 << 16


def rows_by_label(labels: array[int]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each label with its rows in the order they stand in; labels ascending.

    Args:
        labels: the label of each row.
    """
    values = np.frombuffer(labels, dtype=labels.typecode) if labels else np.zeros(0, np.int32)
    # Most files are sorted: then no order of all rows need be kept, in every process.
    in_order = bool(np.all(values[1:] >= values[:-1]))
    order = None if in_order else np.argsort(values, kind="stable")
    # Where the sorted labels change: only this, not the sorted labels, is kept while they are read.
    changes = np.flatnonzero(np.diff(values if order is None else values[order])) + 1
    if len(values):
        for start, stop in pairwise([0, *changes.tolist(), len(values)]):
            rows = np.arange(start, stop) if order is None else order[start:stop]
            yield int(values[rows[0]]), rows


def name_order(names: Iterable[str]) -> list[str]:
    """Numbers by their value if all names are numbers, else all by their bytes."""
    listed = list(names)
    if all(name.isascii() and name.isdigit() for name in listed):
        return sorted(listed, key=lambda name: (int(name), name))
    return sorted(listed, key=lambda name: name.encode("utf-8"))


class Names:
    """Numbers for names, given in the order of their first mention."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Strings:
    """A list of strings to append to, in their UTF-8 bytes and 8 more each."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q")

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        start = self._ends[row - 1] if row else 0
        return self._bytes[start : self._ends[row]].decode("utf-8")


class InputFile:
    """Random access to a file of the source.

    Raises:
        Sf2Error: it cannot be opened, or is a folder or a pipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._ahead, self._ahead_from, self._last = b"", 0, 0
        try:
            # Before it is opened: one end of a pipe waits for the other.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise Sf2Error(f"SOURCE {path}: not a file")
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as failure:
            raise self._failed(failure) from None
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Bytes `offset` ... `offset + size`; fewer at the file's end.

        Raises:
            Sf2Error: the disk fails.
        """
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as failure:
            raise self._failed(failure) from None

    def read_on(self, offset: int, size: int) -> bytes:
        """As `read`, for one who mostly goes on where the last call ended, or a little before.

        More is read then than was asked for, and kept for the next calls.
        """
        near = 0 <= offset - self._last <= size
        self._last = offset
        if not near:
            return self.read(offset, size)
        start = offset - self._ahead_from
        if not 0 <= start <= len(self._ahead) - size:
            self._ahead, self._ahead_from, start = self.read(offset, _AHEAD), offset, 0
        return self._ahead[start : start + size]

    def read_each(self, offsets: Iterable[int], size: int) -> list[bytes]:
        """`read` at each of the offsets.

        Raises:
            Sf2Error: the disk fails.
        """
        pread, descriptor = os.pread, self._descriptor
        try:
            return [pread(descriptor, size, offset) for offset in offsets]
        except OSError as failure:
            raise self._failed(failure) from None

    def _failed(self, failure: OSError) -> Sf2Error:
        return Sf2Error(f"SOURCE {self.path}: cannot be read ({failure.strerror})")

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def read_small_file(path: Path) -> bytes:
    """The first kilobyte of a file.

    Raises:
        Sf2Error: it cannot be read.
    """
    return InputFile(path).read(0, 1024)
