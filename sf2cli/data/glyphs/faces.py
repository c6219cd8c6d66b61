"""Which faces of which fonts: from a list that names their hashes, from a folder, as installed."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from sf2cli import console
from sf2cli.data.glyphs.drawing import freetype
from sf2cli.data.glyphs.settings import GlyphSettings
from sf2cli.data.order import epoch_order
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256

Role = Literal["seen", "unseen"]
ROLES: tuple[Role, Role] = ("seen", "unseen")
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc", ".pfb")
_COLUMNS = ("number", "file", "index", "role", "sha256")
_HASH_DIGITS = 16
_INSTALLED = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")


@dataclass(frozen=True)
class Face:
    """One face of a font; `number` names it in the keys, `role` says who may see it."""

    number: int
    path: Path
    index: int
    role: Role
    sha256: str


def find_faces(settings: GlyphSettings) -> list[Face]:
    """The faces that the settings name, by their numbers.

    Raises:
        Sf2Error: none is there, or one of a list is missing or another version.
    """
    freetype()
    if settings.faces is not None and settings.faces.suffix == ".tsv":
        return _listed(settings.faces, settings.root)
    if settings.faces is not None:
        if not settings.faces.is_dir():
            raise Sf2Error(
                f"SOURCE {settings.faces}: no such folder", "Name a folder of fonts, or a list."
            )
        folders = [settings.faces]
    else:
        folders = [path for path in map(_expanded, _INSTALLED) if path.is_dir()]
    found = _in_folders(folders) or (_in_folders(_bundled()) if settings.faces is None else [])
    if not found:
        raise Sf2Error(
            f"SOURCE {settings.faces or 'fonts'}: no font in it (sought: {', '.join(_SUFFIXES)})",
            "Install some, or name a folder with --set faces=FOLDER.",
        )
    unseen = set(
        epoch_order(len(found), settings.split_seed, 0)[
            : round(len(found) * settings.unseen_share)
        ].tolist()
    )
    return [
        Face(number, path, index, ROLES[number in unseen], sha256)
        for number, (path, index, sha256) in enumerate(found)
    ]


def _listed(path: Path, root: Path) -> list[Face]:
    """The faces of a list, each file compared with its hash; the role `dropped` is passed over."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, ValueError, csv.Error) as failure:
        raise Sf2Error(f"SOURCE {path}: cannot be read ({failure})") from None
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise Sf2Error(
            f"SOURCE {path}: no list of faces",
            f"Its first line names the columns, {', '.join(_COLUMNS)} among them, between tabs.",
        )
    faces = [_face(path, line, row, root) for line, row in enumerate(rows, 2)]
    kept = [face for face in faces if face is not None]
    missing = [face for face in kept if not face.path.is_file()]
    if missing:
        packages = {row.get("package") or row["file"] for row in rows}
        raise Sf2Error(
            f"SOURCE {path}: {len(missing)} of {len(kept)} faces are not installed, first"
            f" {missing[0].path}",
            f"apt-get install --no-install-recommends {' '.join(sorted(packages))}",
        )
    hashes: dict[Path, str] = {}
    with console.progress("check fonts", len(kept), unit="faces") as progress:
        for face in kept:
            if face.path not in hashes:
                hashes[face.path] = file_sha256(face.path)
            found = hashes[face.path]
            if not found.startswith(face.sha256):
                raise Sf2Error(
                    f"SOURCE {path}: {face.path} has sha256 {found[:_HASH_DIGITS]}, where the list"
                    f" says {face.sha256}: another version of the font",
                    "Install the version that the list names, or make a list of your own.",
                )
            progress.advance()
    if len({face.number for face in kept}) < len(kept):
        raise Sf2Error(f"SOURCE {path}: a number stands twice in it", "Number the faces anew.")
    return sorted(kept, key=lambda face: face.number)


def _face(path: Path, line: int, row: dict[str, str], root: Path) -> Face | None:
    try:
        if row["role"] == "dropped":
            return None
        if len(row["sha256"]) < _HASH_DIGITS:
            raise ValueError
        role = ROLES[ROLES.index(cast(Role, row["role"]))]
        number, index = int(row["number"]), int(row["index"])
        return Face(number, root / row["file"], index, role, row["sha256"])
    except (TypeError, ValueError):
        raise Sf2Error(
            f"SOURCE {path}: line {line} is no face",
            f"number and index are whole numbers, role is seen, unseen or dropped, sha256 has"
            f" {_HASH_DIGITS} digits or more.",
        ) from None


def _in_folders(folders: list[Path]) -> list[tuple[Path, int, str]]:
    """Path, face and hash of every font; a file that is there twice counts once."""
    found: list[tuple[Path, int, str]] = []
    seen: set[str] = set()
    with console.progress("find fonts", None, unit="files") as line:
        for path in (path for folder in folders for path in _fonts_below(folder)):
            line.advance()
            sha256 = file_sha256(path)
            if sha256 in seen:
                continue
            seen.add(sha256)
            try:
                faces = freetype().Face(str(path)).num_faces
            except freetype().FT_Exception:
                console.warn(f"{path} is not a font that FreeType can read")
                continue
            found += [(path, index, sha256) for index in range(faces)]
    return found


def _fonts_below(folder: Path) -> Iterator[Path]:
    below = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    fonts = (path for path in below if path.suffix.lower() in _SUFFIXES and path.is_file())
    return iter(sorted(fonts, key=lambda path: os.fsencode(path.relative_to(folder))))


def _bundled() -> list[Path]:
    """The fonts that come with matplotlib, found without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    places = spec.submodule_search_locations if spec else None
    return [Path(place) / "mpl-data" / "fonts" / "ttf" for place in places or ()]


def _expanded(name: str) -> Path:
    return Path(name).expanduser()
