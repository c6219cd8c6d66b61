"""CFP's protocols: Protocol/Split/FP or FF, ten folders with same.txt and diff.txt.

Each line of these is `i,j`, numbers in Protocol/Pair_list_F.txt and Pair_list_P.txt, whose lines
are `number ../Data/Images/...`: in FP i is a frontal and j a profile picture, in FF both frontal.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.pair_list import Pair, PairList, pair_list

_REMEDY = "Name the folder Protocol/Split/FP or Protocol/Split/FF of CFP."


def read_cfp(folder: Path) -> PairList:
    """The pairs of a split, fold by fold, genuine ones first.

    Raises:
        Sf2Error: lists that are missing or unreadable, lines that do not fit, numbers that no
            picture has.
    """
    kind = folder.name.upper()
    if kind not in ("FP", "FF"):
        raise Sf2Error(f"--pairs {folder}: a folder, and not CFP's FP or FF", _REMEDY)
    lists = folder.parent.parent
    frontal = _pictures(lists / "Pair_list_F.txt")
    other = _pictures(lists / "Pair_list_P.txt") if kind == "FP" else frontal
    folds = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    pairs: list[Pair] = []
    for fold in folds:
        for name, same in (("same.txt", True), ("diff.txt", False)):
            pairs += _fold(fold / name, frontal, other, same)
    if not pairs:
        raise Sf2Error(f"--pairs {folder}: no pairs in it", _REMEDY)
    return pair_list(f"CFP {kind}", pairs)


def _fold(path: Path, frontal: dict[str, str], other: dict[str, str], same: bool) -> list[Pair]:
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        i, comma, j = (word.strip() for word in line.partition(","))
        if not comma or i not in frontal or j not in other:
            raise Sf2Error(
                f"{path}, line {number}: found {line.strip()!r:.80}, expected `i,j`, two numbers"
                " of the picture lists",
                _REMEDY,
            )
        pairs.append((frontal[i], other[j], same))
    return pairs


def _pictures(path: Path) -> dict[str, str]:
    """The picture of each number, from the folder above `Protocol` on."""
    found = {}
    for number, line in enumerate(_lines(path), 1):
        words = line.split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2 or not words[0].isdigit():
            raise Sf2Error(
                f"{path}, line {number}: found {line.strip()!r:.80}, expected `number path`",
                _REMEDY,
            )
        found[words[0]] = posixpath.normpath(posixpath.join("Protocol", words[1].strip()))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})", _REMEDY) from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", _REMEDY) from None
