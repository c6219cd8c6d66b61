"""Large text files of whole numbers in columns, with every line checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.errors import Sf2Error

_CHUNK_BYTES = 1 << 24
# What splits columns; anything else that is no digit or sign before one is refused.
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\r\v\f\n", np.uint8))


def read_numbers(path: Path, columns: int, expected: str) -> NDArray[np.int64]:
    """The lines of a file as int64 [lines, columns]; line ends of Unix or Windows.

    Args:
        path: millions of lines are read a part at a time; empty ones are skipped.
        columns: how many each line must have.
        expected: what a line should be, for the message.

    Raises:
        Sf2Error: unreadable, or a line with other columns; the first such line is shown.
    """
    found, lines = [np.empty((0, columns), np.int64)], 0
    try:
        size = path.stat().st_size
        with console.progress(f"{path.name}: read", size, "bytes") as bar:
            for chunk in _chunks(path):
                found.append(_numbers(path, chunk, columns, expected, lines))
                lines += chunk.count(b"\n")
                bar.advance(len(chunk))
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
    return np.concatenate(found)


def _chunks(path: Path) -> Iterator[bytes]:
    """The file in parts that end where a line does."""
    with path.open("rb") as stream:
        rest = b""
        while read := stream.read(_CHUNK_BYTES):
            whole, newline, rest = (rest + read).rpartition(b"\n")
            if newline:
                yield whole + newline
        if rest:
            yield rest


def _numbers(
    path: Path, chunk: bytes, columns: int, expected: str, before: int
) -> NDArray[np.int64]:
    data = np.frombuffer(chunk, np.uint8)
    space = _IS_SPACE[data]
    is_start = ~space & np.append(True, space[:-1])
    starts = np.flatnonzero(is_start)
    line = np.cumsum(data == ord("\n"))[starts]
    counts = np.bincount(line)
    odd = np.flatnonzero((counts != 0) & (counts != columns))
    digits = (data >= ord("0")) & (data <= ord("9"))
    minus = (data == ord("-")) & is_start & np.append(digits[1:], False)
    foreign = np.flatnonzero(~space & ~digits & ~minus)
    if len(odd) or len(foreign):
        bad = [int(odd[0])] if len(odd) else []
        bad += [int(np.count_nonzero(data[: foreign[0]] == ord("\n")))] if len(foreign) else []
        number = min(bad)
        text = chunk.split(b"\n")[number].decode("utf-8", "replace").strip()
        raise Sf2Error(
            f"{path}, line {before + number + 1}: found {text!r:.80}, expected {expected}",
            "Get the file again from where it came.",
        )
    values = np.fromstring(chunk.decode("ascii"), dtype=np.int64, sep=" ") if len(starts) else line
    return values.reshape(-1, columns)
