"""Five landmarks an image, read from a file: CSV, TSV, blanks between, or JSON."""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error

_NUMBERS = 10
_REMEDY = (
    "A line is `path,x1,y1,...,x5,y5`: eyes, nose, corners of the mouth, left before right; or a"
    " path alone where there is no face. JSON is {path: [[x, y], ...]}."
)


class Landmarks:
    """Landmarks by the path of the image."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._values = array("d")

    def add(self, path: str, values: list[float] | None) -> None:
        """Add an image with the ten numbers x1, y1, ... of its landmarks; None has no face."""
        self._rows[path] = -1 if values is None else len(self._values) // _NUMBERS
        self._values.extend(values or ())

    def find(self, *paths: str) -> NDArray[np.float64] | None:
        """Landmarks float64 [5, 2] of the first of `paths` that is known; None has no face."""
        row = next((self._rows[path] for path in paths if path in self._rows), -1)
        if row < 0:
            return None
        values = self._values[row * _NUMBERS : (row + 1) * _NUMBERS]
        return np.array(values, np.float64).reshape(5, 2)

    def first(self) -> str:
        """The path of the first image."""
        return next(iter(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


def load_landmarks(path: Path) -> Landmarks:
    """Read a file of landmarks.

    Raises:
        Sf2Error: it cannot be read, or a line or entry is not as it should be.
    """
    found = Landmarks()
    try:
        for where, name, values in (_entries if path.suffix == ".json" else _lines)(path):
            try:
                found.add(name.removeprefix("./"), _numbers(values))
            except (TypeError, ValueError, OverflowError):
                raise Sf2Error(
                    f"--align {path}: {where}: expected ten numbers or none, found"
                    f" {str(values)[:100]}",
                    _REMEDY,
                ) from None
    except OSError as failure:
        raise Sf2Error(f"--align {path}: cannot be read ({failure.strerror})") from None
    except (ValueError, csv.Error, RecursionError) as failure:
        raise Sf2Error(f"--align {path}: no landmarks ({failure})", _REMEDY) from None
    if not len(found):
        raise Sf2Error(f"--align {path}: no landmarks in it", _REMEDY)
    return found


def _numbers(values: Any) -> list[float] | None:
    if not values:
        return None
    flat = [one for pair in values for one in (pair if isinstance(pair, list) else [pair])]
    numbers = [float(one) for one in flat]
    if len(numbers) != _NUMBERS or not all(map(math.isfinite, numbers)):
        raise ValueError
    return numbers


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    tree = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict):
        raise ValueError(f"expected paths with landmarks, found {type(tree).__name__}")
    for name, values in tree.items():
        yield repr(name), name, values


def _lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        delimiter = next((mark for mark in ",\t" if mark in first), None)
        if delimiter:
            rows: Iterator[list[str]] = csv.reader(stream, delimiter=delimiter)
        else:
            rows = (line.split() for line in stream)
        for number, row in enumerate(rows, 1):
            fields = [field.strip() for field in row]
            if not any(fields) or (number <= 2 and _is_heading(fields)):
                continue
            # What stands behind the landmarks is the detector's score.
            values = [field for field in fields[1 : 1 + _NUMBERS] if field]
            yield f"line {number}", fields[0], values


def _is_heading(fields: list[str]) -> bool:
    """A count, or the names of columns."""
    if len(fields) == 1:
        return fields[0].isdigit()
    try:
        float(fields[1])
    except ValueError:
        return bool(fields[1])
    return False
