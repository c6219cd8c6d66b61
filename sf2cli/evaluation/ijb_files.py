"""IJB-B and IJB-C as InsightFace packs them: a folder of crops, `loose_crop`, and one of lists,
`meta`, whose names start with ijbb or ijbc.

PREFIX_face_tid_mid.txt        image template medium
PREFIX_name_5pts_score.txt     image, five landmarks x y, the detector's score; the same lines
PREFIX_template_pair_label.txt template template 0|1
PREFIX_1N_gallery_X.csv        TEMPLATE_ID,SUBJECT_ID,...; X is S1, S2 or G1, G2
PREFIX_1N_probe_mixed.csv      the same
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.crops import Crops
from sf2cli.evaluation.ijb_lists import (
    NAMED,
    REMEDY,
    People,
    check_known,
    named_numbers,
    read_people,
)
from sf2cli.evaluation.number_columns import read_numbers
from sf2cli.files import file_sha256
from sf2cli.words import are, count_of

PREFIXES = ("ijbb", "ijbc")


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
        repeated: lines that name an image of a template again.
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
    repeated: int
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
    names, numbers = named_numbers(faces, 2, "`image template medium`")
    points = meta / f"{prefix}_name_5pts_score.txt"
    pointed, values = named_numbers(points, 11, "`image x1 y1 ... x5 y5 score`")
    _check_same_names(faces, names, points, pointed)
    _check_whole(faces, names, numbers)
    _check_scores(points, names, values[:, 10])
    template, medium = numbers.astype(np.int64).T
    crops = Crops(root / "loose_crop", names, values[:, :10].reshape(-1, 5, 2))
    listed = meta / f"{prefix}_template_pair_label.txt"
    pairs = read_numbers(listed, 3, "`template template 0|1`") if listed.exists() else None
    if pairs is not None:
        if not len(pairs):
            raise Sf2Error(f"{listed}: no pairs in it", REMEDY)
        _check_labels(listed, pairs)
        check_known(listed, np.unique(pairs[:, :2]), template)
    galleries = {}
    for path in sorted(meta.glob(f"{prefix}_1N_gallery_*.csv")):
        galleries[path.stem.rpartition("_")[2]] = read_people(path, template)
    probes = meta / f"{prefix}_1N_probe_mixed.csv"
    if pairs is None and not (galleries and probes.exists()):
        raise Sf2Error(
            f"--ijb {root}: neither {listed.name} nor {probes.name} with galleries in {meta}",
            REMEDY,
        )
    return IjbFiles(
        name={"ijbb": "IJB-B", "ijbc": "IJB-C"}[prefix],
        crops=crops,
        template=template,
        medium=medium,
        score=values[:, 10],
        pairs=pairs,
        probes=read_people(probes, template) if probes.exists() else None,
        repeated=len(names) - len(set(zip(names, template.tolist(), strict=True))),
        data_sha256=_hash(meta, prefix, crops),
        galleries=galleries,
    )


def _prefix(root: Path) -> str:
    for prefix in PREFIXES:
        if (root / "meta" / f"{prefix}_face_tid_mid.txt").is_file():
            return prefix
    raise Sf2Error(
        f"--ijb {root}: neither meta/ijbb_face_tid_mid.txt nor meta/ijbc_face_tid_mid.txt in it",
        REMEDY,
    )


def _check_whole(path: Path, names: list[str], numbers: NDArray[np.float64]) -> None:
    bad = np.flatnonzero((numbers != np.floor(numbers)).any(axis=1))
    if len(bad):
        raise Sf2Error(
            f"{path}: {len(bad)} of {count_of(len(names), 'line')} without whole numbers, the first"
            f" of {names[bad[0]]}",
            REMEDY,
        )


def _check_scores(path: Path, names: list[str], scores: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(scores < 0)
    if len(bad):
        raise Sf2Error(
            f"{path}: {len(bad)} of {count_of(len(names), 'score')} {are(len(bad))} below 0, the"
            f" first of {names[bad[0]]}: {scores[bad[0]]:g}",
            "A detector's score weighs an image in its template: get the list again.",
        )


def _check_same_names(one: Path, names: list[str], other: Path, others: list[str]) -> None:
    if len(names) != len(others):
        raise Sf2Error(f"{one}: {len(names)} images, where {other} has {len(others)}", REMEDY)
    for number, (name, found) in enumerate(zip(names, others, strict=True), 1):
        if name != found:
            raise Sf2Error(f"{one}, image {number}: {name}, where {other} has {found}", REMEDY)


def _check_labels(path: Path, pairs: NDArray[np.int64]) -> None:
    bad = np.flatnonzero((pairs[:, 2] != 0) & (pairs[:, 2] != 1))
    if len(bad):
        raise Sf2Error(
            f"{path}: {count_of(len(bad), 'pair')} with another label than 0 or 1, the first of"
            f" templates {pairs[bad[0], 0]} and {pairs[bad[0], 1]}: {pairs[bad[0], 2]}"
        )


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
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise Sf2Error(
            f"{crops.root}: {len(missing)} of {len(crops)} images {are(len(missing))} missing:"
            f" {', '.join(missing[:NAMED])}{more}",
            "A template without some of its images gives another number: complete them.",
        )
    return digest.hexdigest()
