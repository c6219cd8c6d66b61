"""Pairs named in a text file: `path1 path2 0|1` lines, or LFW's pairs.txt.

LFW's form starts with one line of numbers, `folds pairs` or `pairs`: so many genuine and as many
impostor pairs follow in each fold. `name i j` is a genuine pair, `name1 i name2 j` an impostor
one, and image i of a name is the file name/name_%04d.jpg (or .png). Columns are cut at tabs, in a
line without tabs at spaces. Line ends may be those of any system; empty lines are skipped.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error

_LFW = "LFW pairs.txt"
_GENERIC = "pairs list"
_EXPECTED = {
    _LFW: "`name i j` or `name1 i name2 j`",
    _GENERIC: "`path1 path2 0|1`",
}
_SUFFIXES = {_LFW: (".jpg", ".png"), _GENERIC: ("",)}
_REMEDY = (
    "A list has `path1 path2 0|1` lines, 1 for one identity, or is LFW's pairs.txt, which starts"
    " with a line of numbers."
)


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
    """Read a list in either form, which the first line tells.

    Raises:
        Sf2Error: unreadable, no pairs, lines that do not fit, or not as many as LFW's first line
            says.
    """
    rows = _rows(path)
    if not rows:
        raise Sf2Error(f"{path}: no pairs in it: the file is empty", _REMEDY)
    header = rows[0][1]
    form = _LFW if len(header) <= 2 and all(_is_count(word) for word in header) else _GENERIC
    if form == _LFW:
        rows = rows[1:]
    numbers: dict[str, int] = {}
    pairs, bad = [], []
    for line, columns in rows:
        pair = _lfw_pair(columns) if form == _LFW else _generic_pair(columns)
        if pair is None:
            bad.append((line, columns))
        else:
            one, other, same = pair
            indices = [numbers.setdefault(name, len(numbers)) for name in (one, other)]
            pairs.append((*indices, same))
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
    table = np.array(pairs, dtype=np.int32).reshape(-1, 3)
    return PairList(
        form=form,
        paths=list(numbers),
        suffixes=_SUFFIXES[form],
        first=table[:, 0],
        second=table[:, 1],
        issame=table[:, 2].astype(np.bool_),
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
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


def _generic_pair(columns: list[str]) -> tuple[str, str, bool] | None:
    if len(columns) != 3 or columns[2] not in ("0", "1") or not all(columns):
        return None
    return columns[0], columns[1], columns[2] == "1"


def _lfw_pair(columns: list[str]) -> tuple[str, str, bool] | None:
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
