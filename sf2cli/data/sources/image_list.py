"""Images by a list of their paths and labels: CSV, TSV, .lst, or blanks between.

An identity is named by its label. Numbers are in the order of their value, other labels in that
of their bytes; an identity's images are in the order of the list.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.data.sources.grouping import InputFile, Names, name_order, rows_by_label
from sf2cli.data.sources.list_format import ListFormat, find_format
from sf2cli.data.sources.source import (
    SourceFault,
    SourceIdentity,
    SourceImage,
    SourceImages,
    ignored_only,
    read_file,
    shown_name,
    source_fault,
)
from sf2cli.errors import Sf2Error

# Longer than any path and label: a file with such a line is no list.
_LINE_BYTES = 16_384
_BATCH = 4096


@dataclass(frozen=True)
class _Table:
    """The lines with images: where each starts, and the number of its label."""

    format: ListFormat
    names: Names
    labels: array[int]
    offsets: array[int]
    numbers: array[int]
    faults: list[SourceFault]


class ListSource:
    """The images that `path` lists.

    Args:
        path: the list, in UTF-8.
        root: the folder its paths are relative to, and lie in.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self._file = InputFile(path)
        self._below = os.path.join(os.path.abspath(root), "")

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "list", "name": shown_name(self.path)}

    @property
    def places(self) -> list[Path]:
        return [self.path]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: there is no list or no folder of images, or no line has a path and a label.
                One that has not, or whose path leads out of the folder, is a fault.
        """
        table = self._table
        names = list(table.names)
        rows = dict(rows_by_label(table.labels))
        identities = (
            SourceIdentity(name, SourceImages(rows[table.names.number(name)], self._image))
            for name in name_order(names)
        )
        return chain([ignored_only(0, table.faults)], identities) if table.faults else identities

    def _image(self, row: int) -> SourceImage:
        table = self._table
        line = self._file.read(table.offsets[row], _LINE_BYTES).partition(b"\n")[0]
        try:
            file, name = self._row(table.format, table.numbers[row], _text(line))
        except UnicodeDecodeError:
            raise self._bad(table.numbers[row], "changed while it was packed") from None
        path = self.root / file
        inside = self._whole(file).removeprefix(self._below)
        return SourceImage(
            # As the folder of identities would be packed.
            inside if inside.startswith(f"{name}/") else f"{name}/{inside}",
            f"{self.path} line {table.numbers[row]}: {path}",
            lambda: read_file(path),
        )

    @cached_property
    def _table(self) -> _Table:
        if not self.root.is_dir():
            raise Sf2Error(
                f"SOURCE {self.path}: the folder of its images, {self.root}, is none",
                "Name it with --images ROOT.",
            )
        lines = self._lines()
        first = next(lines, None)
        second = next(self._lines(skip=1), None)
        if first is None:
            raise Sf2Error(f"SOURCE {self.path}: it is empty", "List a path and a label a line.")
        try:
            found = find_format(self.path.suffix, first[2], second[2] if second else "")
        except ValueError as failure:
            raise self._bad(first[0], str(failure)) from None
        table = _Table(found, Names(), array("i"), array("q"), array("q"), [])
        with console.progress(f"read {self.path.name}", None, unit="lines") as progress:
            for number, offset, line in self._lines(skip=int(found.header)):
                try:
                    label = self._row(found, number, line)[1]
                except Sf2Error as failure:
                    name = f"{shown_name(self.path)} line {number}"
                    table.faults.append(source_fault(name, failure))
                    continue
                table.labels.append(table.names.number(label))
                table.offsets.append(offset)
                table.numbers.append(number)
                if len(table.labels) % _BATCH == 0:
                    progress.advance(_BATCH)
        if not table.labels:
            if table.faults:
                raise table.faults[0].error
            raise Sf2Error(f"SOURCE {self.path}: a header and no image")
        return table

    def _row(self, found: ListFormat, number: int, line: str) -> tuple[str, str]:
        try:
            path, label = found.row(line)
        except ValueError as failure:
            raise self._bad(number, f"{line[:200]!r} {failure}") from None
        # Most are plainly within; to make each whole would take most of the time.
        odd = path.startswith(("/", ".")) or ".." in path or "\0" in path
        if odd and ("\0" in path or not self._whole(path).startswith(self._below)):
            raise Sf2Error(
                f"SOURCE {self.path}: line {number}: the path {path!r} leads out of {self.root}",
                "Name the folder that all images lie in with --images ROOT.",
            )
        return path, label

    def _whole(self, path: str) -> str:
        return os.path.abspath(self.root / path)

    def _lines(self, skip: int = 0) -> Iterator[tuple[int, int, str]]:
        """Number, offset and text of each line that is not blank, but for the first `skip`."""
        try:
            with self.path.open("rb") as stream:
                offset = number = 0
                while line := stream.readline(_LINE_BYTES):
                    number += 1
                    start, offset = offset, offset + len(line)
                    if len(line) == _LINE_BYTES:
                        raise self._bad(number, f"over {_LINE_BYTES} bytes long")
                    if not line.strip():
                        continue
                    if skip:
                        skip -= 1
                        continue
                    yield number, start, _text(line)
        except UnicodeDecodeError:
            raise self._bad(number, "not UTF-8 text") from None
        except OSError as failure:
            raise Sf2Error(f"SOURCE {self.path}: cannot be read ({failure.strerror})") from None

    def _bad(self, number: int, what: str) -> Sf2Error:
        return Sf2Error(
            f"SOURCE {self.path}: line {number}: {what}",
            "A list has a path and a label a line: `anna/1.jpg,anna`. See `sf2 pack --help`.",
        )


def _text(line: bytes) -> str:
    """A line without its end, and without the mark that Windows puts before the first."""
    return line.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
