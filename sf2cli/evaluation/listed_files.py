"""The images that a pairs list names, in the folder that `--images` names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.cfp import read_cfp
from sf2cli.evaluation.file_faces import FileFaces
from sf2cli.evaluation.pair_list import PairList, read_pair_list
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.files import file_sha256
from sf2cli.words import are

_NAMED = 5


def open_pair_list(path: Path, root: Path) -> PairSet:
    """The pairs of a list or of CFP's folder, in order, with their images in the folder `root`.

    Raises:
        Sf2Error: as `read_pair_list` and `read_cfp`; no folder `root`; images that are missing
            there or lie outside; a list without genuine or without impostor pairs.
    """
    listed = read_cfp(path) if path.is_dir() else read_pair_list(path)
    if not root.is_dir():
        raise Sf2Error(
            f"--images {root}: no such folder",
            f"Name the folder that the paths of {path} start in.",
        )
    faces = FileFaces(root, _find_all(path, root, listed))
    return PairSet(
        name=path.stem,
        protocol=listed.form,
        source=path,
        data_sha256=_hash(path, faces, listed),
        hashed="the list's pairs, then each image's sha256, in the list's order",
        faces=faces,
        first=listed.first,
        second=listed.second,
        issame=listed.issame,
        all_pairs=False,
        folds="contiguous",
    )


def _find_all(path: Path, root: Path, listed: PairList) -> list[str]:
    found, missing = [], []
    for name in listed.paths:
        if _is_outside(root, name):
            raise Sf2Error(
                f"{path}: {name} lies outside --images {root}",
                "Name a folder that holds all of the list's images; / allows every path.",
            )
        files = [name + suffix for suffix in listed.suffixes]
        present = next((file for file in files if (root / file).is_file()), None)
        if present is None:
            missing.append(files[0])
        else:
            found.append(present)
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise Sf2Error(
            f"{path}: {len(missing)} of its {len(listed.paths)} images {are(len(missing))} missing"
            f" in {root}: {', '.join(missing[:_NAMED])}{more}",
            "Pairs are never left out, for the numbers would be of another list: complete the"
            " images, or name another --images folder.",
        )
    return found


def _is_outside(root: Path, name: str) -> bool:
    top = os.path.abspath(root)
    return os.path.commonpath([top, os.path.abspath(root / name)]) != top


def _hash(path: Path, faces: FileFaces, listed: PairList) -> str:
    digest = hashlib.sha256()
    for side in (listed.first, listed.second, listed.issame):
        digest.update(np.ascontiguousarray(side).tobytes())
    with console.progress(f"{path.stem}: hash", len(faces), "images") as line:
        for file in faces.files:
            try:
                digest.update(bytes.fromhex(file_sha256(faces.root / file)))
            except OSError as failure:
                raise Sf2Error(
                    f"{faces.root / file}: cannot be read ({failure.strerror})"
                ) from None
            line.advance()
    return digest.hexdigest()
