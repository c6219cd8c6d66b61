"""MegaFace's photos and lists.

One folder with facescrub_images/ and megaface_images/ and, each beside them or in data/,
devkit/templatelists/ or templatelists/:

facescrub_lst, megaface_lst      `person/file` and `a/b/file` lines: the photos; or
facescrub_features_list.json     {"path": ["person/file", ...], ...}: the probes alone
megaface_features_list.json_N_1  the same of N distractors; the largest N is taken
facescrub_noises.txt, megaface_noises.txt   photos to leave out; # starts a comment
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.file_faces import FileFaces
from sf2cli.words import are

_FOLDERS = ("", "data", "devkit/templatelists", "templatelists")
_REMEDY = (
    "A MegaFace folder has facescrub_images/, megaface_images/ and facescrub_lst and megaface_lst,"
    " or the devkit's feature lists."
)
_NAMED = 5


@dataclass(frozen=True)
class MegaFaceFiles:
    """The photos that are left when the noise is out.

    Args:
        photos: probes, then distractors.
        people: of each probe, 0, 1, ... by name, int64 [probes].
        noisy_probes: how many probes were left out.
        noisy_distractors: how many distractors.
        repeated: how many lines name a photo again, which counts once.
        cleaned: whether there were noise lists at all.
        data_sha256: of the names and sizes of the photos.
    """

    photos: FileFaces
    people: NDArray[np.int64]
    noisy_probes: int
    noisy_distractors: int
    repeated: int
    cleaned: bool
    data_sha256: str


def read_megaface(root: Path) -> MegaFaceFiles:
    """Read the lists of `root`, leave out the noise, and find the photos.

    Raises:
        Sf2Error: lists that are missing or unreadable, nobody with two photos, no distractor, or
            photos that are named and not there.
    """
    probe_noise, distractor_noise = _noise(root, "facescrub"), _noise(root, "megaface")
    probes, again = _listed(root, "facescrub", "facescrub_features_list.json")
    distractors, again_too = _listed(root, "megaface", "megaface_features_list.json_*_1")
    kept_probes = [name for name in probes if not _is_noisy(name, probe_noise)]
    kept = [name for name in distractors if not _is_noisy(name, distractor_noise)]
    names = [name.split("/")[0] for name in kept_probes]
    people, counts = np.unique(names, return_counts=True)
    if not kept or not len(people) or counts.max() < 2:
        what = "no distractor" if not kept else "nobody with two probe photos"
        raise Sf2Error(f"--megaface {root}: {what} on its lists", _REMEDY)
    files = [f"facescrub_images/{name}" for name in kept_probes]
    files += [f"megaface_images/{name}" for name in kept]
    return MegaFaceFiles(
        photos=FileFaces(root, files),
        people=np.searchsorted(people, names).astype(np.int64),
        noisy_probes=len(probes) - len(kept_probes),
        noisy_distractors=len(distractors) - len(kept),
        repeated=again + again_too,
        cleaned=bool(probe_noise or distractor_noise),
        data_sha256=_hash(root, files),
    )


def _find(root: Path, pattern: str) -> list[Path]:
    return [
        path
        for folder in _FOLDERS
        for path in sorted((root / folder).glob(pattern))
        if path.is_file()
    ]


def _listed(root: Path, name: str, features: str) -> tuple[list[str], int]:
    """The photos of the largest feature list, or of the plain list, each once; and how many more
    lines name one of them."""
    lists = sorted(_find(root, features), key=_size_of)
    if lists:
        path = lists[-1]
        try:
            found = json.loads(_text(path))["path"]
            if not all(isinstance(one, str) for one in found):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise Sf2Error(f"{path}: expected JSON with a list `path` of names", _REMEDY) from None
    else:
        plain = _find(root, f"{name}_lst")
        if not plain:
            raise Sf2Error(f"--megaface {root}: neither {name}_lst nor {features} in it", _REMEDY)
        path, found = plain[0], _text(plain[0]).splitlines()
    names = [one.strip() for one in found if one.strip()]
    bad = [one for one in names if "/" not in one or ".." in one.split("/") or one[0] == "/"]
    if bad:
        raise Sf2Error(f"{path}: found {bad[0]!r:.80}, expected folder/file", _REMEDY)
    found = list(dict.fromkeys(names))
    return found, len(names) - len(found)


def _size_of(path: Path) -> int:
    words = path.name.split("_")
    return int(words[-2]) if len(words) > 2 and words[-2].isdigit() else 0


def _noise(root: Path, name: str) -> set[str]:
    """What a noise list names: the last column of its lines."""
    found = set()
    for path in _find(root, f"{name}_noises.txt"):
        for line in _text(path).splitlines():
            line = line.partition("#")[0].strip()
            if line:
                found.add(line.split("\t")[-1].strip())
    return found


def _is_noisy(name: str, noise: set[str]) -> bool:
    """FaceScrub's noise is listed with or without its folder and ending."""
    file = name.rpartition("/")[2]
    return not noise.isdisjoint({name, file, name.rpartition(".")[0], file.rpartition(".")[0]})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", _REMEDY) from None


def _hash(root: Path, files: list[str]) -> str:
    digest, missing = hashlib.sha256(), []
    for file in files:
        try:
            digest.update(f"{file} {(root / file).stat().st_size}\n".encode())
        except OSError:
            missing.append(file)
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise Sf2Error(
            f"--megaface {root}: {len(missing)} of {len(files)} photos {are(len(missing))} missing:"
            f" {', '.join(missing[:_NAMED])}{more}",
            "Complete them: with fewer distractors the numbers would be too good.",
        )
    return digest.hexdigest()
