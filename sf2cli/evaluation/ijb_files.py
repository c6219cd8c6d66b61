"""IJB-B and IJB-C as InsightFace packs them: a folder of crops, `loose_crop`, and one of lists,
`meta`, whose names start with ijbb or ijbc.

PREFIX_face_tid_mid.txt        image template medium
PREFIX_name_5pts_score.txt     image, five landmarks x y, the detector's score; the same lines
PREFIX_template_pair_label.txt template template 0|1
PREFIX_1N_gallery_X.csv        TEMPLATE_ID,SUBJECT_ID,...; X is S1, S2 or G1, G2
PREFIX_1N_probe_mixed.csv      the same
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.crops import Crops
from sf2cli.evaluation.number_columns import read_numbers
from sf2cli.files import file_sha256

PREFIXES = ("ijbb", "ijbc")
_REMEDY = (
    "Name the folder that holds `loose_crop` and `meta`, as InsightFace packs it (IJBB or IJBC)."
)
_NAMED = 5


@dataclass(frozen=True)
class People:
    """Templates and whose they are, int64 [T] each; `repeated` counts further lines of a template,
    one for each of its images."""

    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]
    repeated: int


@dataclass(frozen=True)
class IjbFiles:
    """What the lists say.

    Args:
        name: IJB-B or IJB-C.
        crops: the images.
        template: of each image, int64 [images].
        medium: of each image, int64 [images].
        score: the detector's, of each image, float64 [images].
        pairs: template, template, 1 for one person; int64 [pairs, 3]; None without that list.
        galleries: by S1, G1 and so on; none without those lists.
        probes: None without that list.
        data_sha256: of every list and of the names and sizes of the images.
    """

    name: str
    crops: Crops
    template: NDArray[np.int64]
    medium: NDArray[np.int64]
    score: NDArray[np.float64]
    pairs: NDArray[np.int64] | None
    probes: People | None
    data_sha256: str
    galleries: dict[str, People] = field(default_factory=dict)


def read_ijb(root: Path) -> IjbFiles:
    """Read the lists of `root` and find the images.

    Raises:
        Sf2Error: no such packaging, lists that cannot be read or contradict each other, images or
            templates that are named and not there.
    """
    meta, prefix = root / "meta", _prefix(root)
    faces = meta / f"{prefix}_face_tid_mid.txt"
    names, numbers = _named_numbers(faces, 2, "`image template medium`")
    points = meta / f"{prefix}_name_5pts_score.txt"
    pointed, values = _named_numbers(points, 11, "`image x1 y1 ... x5 y5 score`")
    _check_same_names(faces, names, points, pointed)
    template, medium = numbers.astype(np.int64).T
    crops = Crops(root / "loose_crop", names, values[:, :10].reshape(-1, 5, 2))
    listed = meta / f"{prefix}_template_pair_label.txt"
    pairs = read_numbers(listed, 3, "`template template 0|1`") if listed.exists() else None
    if pairs is not None:
        _check_labels(listed, pairs)
        _check_known(listed, np.unique(pairs[:, :2]), template)
    galleries = {}
    for path in sorted(meta.glob(f"{prefix}_1N_gallery_*.csv")):
        galleries[path.stem.rpartition("_")[2]] = _people(path, template)
    probes = meta / f"{prefix}_1N_probe_mixed.csv"
    if pairs is None and not (galleries and probes.exists()):
        raise Sf2Error(
            f"--ijb {root}: neither {listed.name} nor {probes.name} with galleries in {meta}",
            _REMEDY,
        )
    return IjbFiles(
        name={"ijbb": "IJB-B", "ijbc": "IJB-C"}[prefix],
        crops=crops,
        template=template,
        medium=medium,
        score=values[:, 10],
        pairs=pairs,
        probes=_people(probes, template) if probes.exists() else None,
        data_sha256=_hash(meta, prefix, crops),
        galleries=galleries,
    )


def _prefix(root: Path) -> str:
    for prefix in PREFIXES:
        if (root / "meta" / f"{prefix}_face_tid_mid.txt").is_file():
            return prefix
    raise Sf2Error(
        f"--ijb {root}: neither meta/ijbb_face_tid_mid.txt nor meta/ijbc_face_tid_mid.txt in it",
        _REMEDY,
    )


def _named_numbers(
    path: Path, columns: int, expected: str
) -> tuple[list[str], NDArray[np.float64]]:
    """A name and so many finite numbers a line."""
    names, rows = [], []
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
                f"{path}, line {number}: found {line.strip()!r:.80}, expected {expected}", _REMEDY
            )
        names.append(words[0])
        rows.append(row)
    if not names:
        raise Sf2Error(f"{path}: no images in it", _REMEDY)
    return names, np.array(rows)


def _check_same_names(one: Path, names: list[str], other: Path, others: list[str]) -> None:
    if len(names) != len(others):
        raise Sf2Error(f"{one}: {len(names)} images, where {other} has {len(others)}", _REMEDY)
    for number, (name, found) in enumerate(zip(names, others, strict=True), 1):
        if name != found:
            raise Sf2Error(f"{one}, image {number}: {name}, where {other} has {found}", _REMEDY)


def _check_labels(path: Path, pairs: NDArray[np.int64]) -> None:
    bad = np.flatnonzero((pairs[:, 2] != 0) & (pairs[:, 2] != 1))
    if len(bad):
        raise Sf2Error(
            f"{path}: {len(bad)} pairs with another label than 0 or 1, the first of templates"
            f" {pairs[bad[0], 0]} and {pairs[bad[0], 1]}: {pairs[bad[0], 2]}"
        )


def _check_known(path: Path, named: NDArray[np.int64], known: NDArray[np.int64]) -> None:
    missing = np.setdiff1d(named, known)
    if len(missing):
        shown = ", ".join(str(one) for one in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise Sf2Error(
            f"{path}: {len(missing)} of its {len(named)} templates have no image: {shown}{more}",
            "The lists belong to different packagings: get them again together.",
        )


def _people(path: Path, known: NDArray[np.int64]) -> People:
    """The templates of a 1:N list, each once, in their first order."""
    found: dict[int, int] = {}
    rows = csv.reader(io.StringIO("".join(_lines(path))))
    repeated, header = 0, next(rows, None)
    if not header or [word.strip().upper() for word in header[:2]] != ["TEMPLATE_ID", "SUBJECT_ID"]:
        raise Sf2Error(f"{path}, line 1: expected TEMPLATE_ID,SUBJECT_ID,...", _REMEDY)
    for row in rows:
        if not row:
            continue
        try:
            template, subject = int(row[0]), int(row[1])
        except (ValueError, IndexError):
            raise Sf2Error(
                f"{path}, line {rows.line_num}: found {','.join(row)!r:.80}, expected"
                " TEMPLATE_ID,SUBJECT_ID,...",
                _REMEDY,
            ) from None
        if found.setdefault(template, subject) != subject:
            raise Sf2Error(
                f"{path}, line {rows.line_num}: template {template} is of subject {subject}, and of"
                f" {found[template]} before",
                "A template is of one person: get the list again.",
            )
        repeated += 1
    if not found:
        raise Sf2Error(f"{path}: no templates in it", _REMEDY)
    templates = np.array(list(found), np.int64)
    _check_known(path, templates, known)
    return People(templates, np.array(list(found.values()), np.int64), repeated - len(found))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})", _REMEDY) from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", _REMEDY) from None


def _hash(meta: Path, prefix: str, crops: Crops) -> str:
    digest = hashlib.sha256()
    for path in sorted(meta.glob(f"{prefix}_*")):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    missing = []
    with console.progress(f"{prefix}: find", len(crops), "images") as line:
        for name in crops.names:
            try:
                size = os.stat(crops.root / name).st_size
                digest.update(f"{name} {size}\n".encode())
            except OSError:
                missing.append(name)
            line.advance()
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise Sf2Error(
            f"{crops.root}: {len(missing)} of {len(crops)} images are missing:"
            f" {', '.join(missing[:_NAMED])}{more}",
            "A template without some of its images gives another number: complete them.",
        )
    return digest.hexdigest()
