"""Where the records of a .rec file lie: from its .idx, or from the file itself."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sf2cli import console
from sf2cli.data.sources.record_file import RecordFile
from sf2cli.errors import Sf2Error

_BATCH = 4096
_READ_BYTES = 1 << 12
# Two numbers of 20 digits and what stands between.
_LINE_BYTES = 64
# Numbers that fit into 64 bits; such lines, nearly all, need not be looked at one by one.
_USUAL_LINES = re.compile(rb"(?:[0-9]{1,18}\t[0-9]{1,18}\r?\n)+")


class Index(NamedTuple):
    """Keys, ascending, with the records' offsets; `keyed` if they are the writer's own keys."""

    keys: array[int]
    offsets: array[int]
    keyed: bool


def read_index(path: Path, file: RecordFile) -> Index:
    """Read an .idx file: a line `key TAB offset` a record, in any order.

    Raises:
        Sf2Error: it cannot be read, a line is no such line, an offset lies outside the .rec, or a
            key is there twice.
    """
    keys, offsets = array("q"), array("q")
    number = 1
    try:
        with path.open("rb") as stream:
            while lines := stream.read(_READ_BYTES) + stream.readline(_LINE_BYTES):
                numbers = _numbers(path, lines, number)
                keys += numbers[::2]
                offsets += numbers[1::2]
                number += lines.count(b"\n")
    except OSError as failure:
        raise Sf2Error(f"SOURCE {path}: cannot be read ({failure.strerror})") from None
    if not keys:
        raise _bad(path, "it is empty")
    places, ids = (np.frombuffer(numbers, np.int64) for numbers in (offsets, keys))
    wrong = (ids < 0) | (places < 0) | (places >= file.size) | (places % 4 > 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise _bad(path, f"key {ids[row]} is at byte {places[row]} of {file.size}")
    index = _sorted(keys, offsets, keyed=True)
    if index is None:
        raise _bad(path, "a key is there twice")
    return index


def scan_index(file: RecordFile) -> Index:
    """Look through the .rec file: keys are the ids in the records, if those are unique.

    Else they count 0, 1, ... in the order of the file.

    Raises:
        Sf2Error: the file is cut short or holds something else.
    """
    ids, offsets = array("Q"), array("q")
    with console.progress(f"index {file.path.name}", None, unit="records") as line:
        for offset in file.offsets():
            ids.append(file.head(offset).id)
            offsets.append(offset)
            if len(ids) % _BATCH == 0:
                line.advance(_BATCH)
    if ids and max(ids) < 2**63:
        index = _sorted(array("q", ids), offsets, keyed=True)
        if index is not None:
            return index
    return Index(array("q", range(len(offsets))), offsets, keyed=False)


def _numbers(path: Path, lines: bytes, first: int) -> array[int]:
    """Key and offset of each of the lines of an .idx, of which the first has the number `first`."""
    if _USUAL_LINES.fullmatch(lines):
        return array("q", map(int, lines.split()))
    numbers = array("q")
    for number, line in enumerate(lines.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            key, offset = map(int, line.split())
            numbers.extend((key, offset))
        except (ValueError, OverflowError):
            shown = line.strip()[:_LINE_BYTES]
            raise _bad(path, f"line {number} is {shown!r}") from None
    return numbers


def _sorted(keys: array[int], offsets: array[int], keyed: bool) -> Index | None:
    """The index by ascending keys; None if a key is there twice."""
    values = np.frombuffer(keys, dtype=np.int64)
    if np.all(values[1:] > values[:-1]):
        return Index(keys, offsets, keyed)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    if np.any(ordered[1:] == ordered[:-1]):
        return None
    places = np.frombuffer(offsets, dtype=np.int64)[order]
    return Index(array("q", ordered.tobytes()), array("q", places.tobytes()), keyed)


def _bad(path: Path, what: str) -> Sf2Error:
    return Sf2Error(
        f"SOURCE {path}: not the index of its .rec file: {what}",
        "Copy it again, or remove it to have it made anew from the .rec file.",
    )
