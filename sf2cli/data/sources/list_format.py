"""What the columns of an image list mean, found from its first two lines.

path,label             CSV or TSV, with or without a header
path label             opensphere, FaceX-Zoo: blanks between, the label last
index label ... path   .lst of im2rec: the label as a float
flag path label ...    older InsightFace .lst, CVLface train.tsv
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Literal

from sf2cli.data.sources.source import SUFFIXES

# In the order in which they are preferred: where there is a label, `id` counts the rows.
PATH_NAMES = ("path", "image_path", "img_path", "file", "filename", "file_name", "image", "img")
LABEL_NAMES = (
    "label",
    "identity",
    "identity_id",
    "class",
    "class_id",
    "person",
    "subject",
    "subject_id",
    "name",
    "id",
)
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE_FLOAT = re.compile(r"(\d+)\.0*", re.ASCII)


@dataclass(frozen=True)
class ListFormat:
    """The columns of path and label, from the left or, if negative, from the right."""

    delimiter: Literal["\t", ",", " "]
    path: int
    label: int
    header: bool

    def row(self, line: str) -> tuple[str, str]:
        """Path and label in a line without its end; `12.000` is the label `12`.

        Raises:
            ValueError: it has too few columns, or one of the two is empty.
        """
        fields = _split(line, self.delimiter)
        if len(fields) < 2 or len(fields) <= max(self.path, self.label):
            raise ValueError(f"has {len(fields)} columns")
        path, label = fields[self.path].strip(), fields[self.label].strip()
        if not path or not label:
            raise ValueError(f"has no {'label' if path else 'path'}")
        whole = _WHOLE_FLOAT.fullmatch(label)
        return path, whole[1] if whole else label


def find_format(suffix: str, first: str, second: str) -> ListFormat:
    """The format of a list.

    Args:
        suffix: of the list's file name.
        first: its first line.
        second: its second line; empty if there is none.

    Raises:
        ValueError: the first line fits no format; the message says what it lacks.
    """
    delimiter = _delimiter(suffix.lower(), first)
    fields = _split(first, delimiter)
    names = [field.strip().lower() for field in fields]
    path, label = _find(names, PATH_NAMES), _find(names, LABEL_NAMES)
    if path is not None and label is not None:
        return ListFormat(delimiter, path, label, header=True)
    pictures = [i for i, field in enumerate(fields) if _is_picture(field)]
    if not pictures and any(map(_is_picture, _split(second, delimiter) if second else [])):
        raise ValueError(
            f"the header {first!r} lacks a column "
            + (f"of paths ({', '.join(PATH_NAMES)})" if path is None else "")
            + (" and one " if path is None and label is None else "")
            + (f"of labels ({', '.join(LABEL_NAMES)})" if label is None else "")
        )
    if len(fields) < 2:
        raise ValueError(f"{first!r} is one column")
    if len(fields) == 2:
        path, label = (1, 0) if pictures == [1] else (0, 1)
    else:
        path, label = (-1, 1) if _NUMBER.fullmatch(fields[1].strip()) else (1, 2)
    return ListFormat(delimiter, path, label, header=False)


def _delimiter(suffix: str, line: str) -> Literal["\t", ",", " "]:
    if suffix == ".csv":
        return ","
    if "\t" in line:
        return "\t"
    return "," if "," in line and suffix not in (".tsv", ".lst") else " "


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t" or (delimiter == "," and '"' not in line):
        return line.split(delimiter)
    if delimiter == " ":
        # A path may hold blanks; a label does not.
        return line.strip().rsplit(None, 1)
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as failure:
        raise ValueError(f"is no CSV ({failure})") from None


def _find(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _is_picture(field: str) -> bool:
    return field.strip().lower().endswith(SUFFIXES)
