"""Pairs named in a text file, in one of four forms, which the first lines tell.

Generic lists have `path1 path2 0|1` lines, or `0|1 path1 path2` as opensphere writes them.

LFW's form starts with one line of numbers, `folds pairs` or `pairs`: so many genuine and as many
impostor pairs follow in each fold. `name i j` is a genuine pair, `name1 i name2 j` an impostor
one, and image i of a name is the file name/name_%04d.jpg (or .png). CALFW's and CPLFW's lists
have two lines a pair, `image label`, with the label 0 in an impostor pair and another number in a
genuine one; both kinds, which are listed apart, are dealt out over ten folds. Columns are cut at
tabs, in a line without tabs at spaces. Line ends may be those of any system; empty lines are
skipped.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error

_LFW = "LFW pairs.txt"
_TWO_LINES = "CALFW or CPLFW pairs list"
_GENERIC = "pairs list"
_EXPECTED = {
    _LFW: "`name i j` or `name1 i name2 j`",
    _TWO_LINES: "`image label`, two lines a pair with the same label",
    _GENERIC: "`path1 path2 0|1`",
}
_SUFFIXES = {_LFW: (".jpg", ".png"), _TWO_LINES: ("",), _GENERIC: ("",)}
_REMEDY = (
    "A list has `path1 path2 0|1` lines, 1 for one identity (or `0|1 path1 path2`); or is"
    " LFW's pairs.txt, which starts with a line of numbers; or CALFW's or CPLFW's, of `image label`"
    " lines."
)
_FOLDS = 10
_LABELS = ("0", "1")
Pair = tuple[str, str, bool]
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class PairList:
    """What a list says.

    `paths` are relative to the images' root and distinct, each to be completed by one of
    `suffixes`; pair k is paths[first[k]] and paths[second[k]] (int32 [pairs]), genuine where
    issame[k] (bool [pairs]).
    """

    form: str
    paths: list[str]
    suffixes: tuple[str, ...]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    issame: NDArray[np.bool_]


def read_pair_list(path: Path) -> PairList:
    """Read a list in any of the forms.

    Raises:
        Sf2Error: unreadable, no pairs, lines that do not fit, or not as many as LFW's first line
            says.
    """
    rows = _rows(path)
    if not rows:
        raise Sf2Error(f"{path}: no pairs in it: the file is empty", _REMEDY)
    header = rows[0][1]
    form = _form(rows)
    if form == _TWO_LINES:
        pairs, bad = _two_line_pairs(rows)
    else:
        parse = _lfw_pair if form == _LFW else _generic_reader(rows)
        pairs, bad = _pairs(rows[1:] if form == _LFW else rows, parse)
    if bad:
        line, columns = bad[0]
        more = f"; {len(bad) - 1} more lines do not fit either" if len(bad) > 1 else ""
        raise Sf2Error(
            f"{path}, line {line}: found {len(columns)} columns, {' '.join(columns)!r:.80},"
            f" expected {_EXPECTED[form]}{more}",
            _REMEDY,
        )
    if form == _LFW:
        _check_lfw_count(path, header, len(pairs))
    return pair_list(form, pairs, _SUFFIXES[form])


def _form(rows: list[Row]) -> str:
    header = rows[0][1]
    if len(header) <= 2 and all(_is_count(word) for word in header):
        return _LFW
    if len(header) == 2 and len(rows) > 1 and len(rows[1][1]) == 2 and header[1].isdigit():
        return _TWO_LINES
    return _GENERIC


def _pairs(
    rows: list[Row], parse: Callable[[list[str]], Pair | None]
) -> tuple[list[Pair], list[Row]]:
    """The pairs, and the lines that are none."""
    read = [(row, parse(row[1])) for row in rows]
    return (
        [pair for _, pair in read if pair is not None],
        [row for row, pair in read if pair is None],
    )


def _two_line_pairs(rows: list[Row]) -> tuple[list[Pair], list[Row]]:
    """The pairs, each kind dealt out over the folds in its order, and the lines that are none."""
    bad = [row for row in rows if len(row[1]) != 2 or not row[1][1].isdigit()]
    if bad:
        return [], bad
    kinds: dict[bool, list[Pair]] = {True: [], False: []}
    for one, other in zip_longest(rows[0::2], rows[1::2]):
        if other is None or one[1][1] != other[1][1]:
            bad.append(one if other is None else other)
            continue
        same = int(one[1][1]) != 0
        kinds[same].append((one[1][0], other[1][0], same))
    folds = []
    for k in range(_FOLDS):
        for pairs in kinds.values():
            folds += pairs[len(pairs) * k // _FOLDS : len(pairs) * (k + 1) // _FOLDS]
    return folds, bad


def pair_list(form: str, pairs: list[Pair], suffixes: tuple[str, ...] = ("",)) -> PairList:
    """A list of `pairs` (path, path, whether genuine), in their order."""
    numbers: dict[str, int] = {}
    table = np.array(
        [
            (*(numbers.setdefault(name, len(numbers)) for name in (one, other)), same)
            for one, other, same in pairs
        ],
        dtype=np.int32,
    ).reshape(-1, 3)
    return PairList(
        form=form,
        paths=list(numbers),
        suffixes=suffixes,
        first=table[:, 0],
        second=table[:, 1],
        issame=table[:, 2].astype(np.bool_),
    )


def _rows(path: Path) -> list[Row]:
    """Line number and columns of every line that is not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", _REMEDY) from None
    rows = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        line = line.strip()
        if line:
            columns = line.split("\t") if "\t" in line else line.split()
            rows.append((number, [column.strip() for column in columns]))
    return rows


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 0


def _generic_reader(rows: list[Row]) -> Callable[[list[str]], Pair | None]:
    """The reader of generic lines; the label stands first only where no line has it last."""
    if any(len(columns) == 3 and columns[2] in _LABELS for _, columns in rows):
        return _generic_pair
    return lambda columns: _generic_pair([*columns[1:], columns[0]])


def _generic_pair(columns: list[str]) -> Pair | None:
    if len(columns) != 3 or columns[2] not in _LABELS or not all(columns):
        return None
    return columns[0], columns[1], columns[2] == "1"


def _lfw_pair(columns: list[str]) -> Pair | None:
    if len(columns) == 3:
        columns = [columns[0], columns[1], columns[0], columns[2]]
        same = True
    elif len(columns) == 4:
        same = False
    else:
        return None
    name, i, other, j = columns
    if not (name and other and _is_count(i) and _is_count(j)):
        return None
    return f"{name}/{name}_{int(i):04d}", f"{other}/{other}_{int(j):04d}", same


def _check_lfw_count(path: Path, header: list[str], found: int) -> None:
    *folds, each = (int(word) for word in header)
    expected = 2 * each * (folds[0] if folds else 1)
    if found != expected:
        raise Sf2Error(
            f"{path}: {found} pairs, where its first line, {' '.join(header)!r}, says {expected}",
            "The list is cut short or was edited: get it again, or mend its first line.",
        )
