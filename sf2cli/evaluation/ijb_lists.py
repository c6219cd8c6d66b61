"""The lines of IJB's lists: images with numbers, and templates with their people."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.words import have

REMEDY = (
    "Name the folder that holds `loose_crop` and `meta`, as InsightFace packs it (IJBB or IJBC)."
)
NAMED = 5


@dataclass(frozen=True)
class People:
    """Templates and whose they are, int64 [T] each; `repeated` counts further lines of a template,
    one for each of its images."""

    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]
    repeated: int


def named_numbers(path: Path, columns: int, expected: str) -> tuple[list[str], NDArray[np.float64]]:
    """A name and so many finite numbers a line: names, and float64 [lines, columns].

    Args:
        path: columns split by blanks.
        columns: of numbers.
        expected: what a line should be, for the message.

    Raises:
        Sf2Error: unreadable, empty, another line, or a name that leads out of its folder.
    """
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            row = [float(word) for word in words[1:]]
        except ValueError:
            row = []
        if len(row) != columns or not np.isfinite(row).all():
            raise Sf2Error(
                f"{path}, line {number}: found {line.strip()!r:.80}, expected {expected}", REMEDY
            )
        if words[0].startswith("/") or ".." in words[0].split("/"):
            raise Sf2Error(
                f"{path}, line {number}: {words[0]!r:.80} leads out of loose_crop", REMEDY
            )
        names.append(words[0])
        rows.append(row)
    if not names:
        raise Sf2Error(f"{path}: no images in it", REMEDY)
    return names, np.array(rows)


def read_people(path: Path, known: NDArray[np.int64]) -> People:
    """The templates of a 1:N list, each once, in their first order.

    Raises:
        Sf2Error: unreadable, empty, another line, a template of two people, or one not `known`.
    """
    found: dict[int, int] = {}
    rows = csv.reader(io.StringIO("".join(_lines(path))))
    repeated, header = 0, next(rows, None)
    if not header or [word.strip().upper() for word in header[:2]] != ["TEMPLATE_ID", "SUBJECT_ID"]:
        raise Sf2Error(f"{path}, line 1: expected TEMPLATE_ID,SUBJECT_ID,...", REMEDY)
    for row in rows:
        if not row:
            continue
        try:
            template, subject = int(row[0]), int(row[1])
        except (ValueError, IndexError):
            raise Sf2Error(
                f"{path}, line {rows.line_num}: found {','.join(row)!r:.80}, expected"
                " TEMPLATE_ID,SUBJECT_ID,...",
                REMEDY,
            ) from None
        if found.setdefault(template, subject) != subject:
            raise Sf2Error(
                f"{path}, line {rows.line_num}: template {template} is of subject {subject}, and of"
                f" {found[template]} before",
                "A template is of one person: get the list again.",
            )
        repeated += 1
    if not found:
        raise Sf2Error(f"{path}: no templates in it", REMEDY)
    templates = np.array(list(found), np.int64)
    check_known(path, templates, known)
    return People(templates, np.array(list(found.values()), np.int64), repeated - len(found))


def check_known(path: Path, named: NDArray[np.int64], known: NDArray[np.int64]) -> None:
    """Raises Sf2Error if a template that a list names has no image."""
    missing = np.setdiff1d(named, known)
    if len(missing):
        shown = ", ".join(str(one) for one in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise Sf2Error(
            f"{path}: {len(missing)} of its {len(named)} templates {have(len(missing))} no image:"
            f" {shown}{more}",
            "The lists belong to different packagings: get them again together.",
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})", REMEDY) from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", REMEDY) from None
