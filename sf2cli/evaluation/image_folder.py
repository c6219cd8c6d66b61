"""All images in a folder, at any depth, as faces; or a packed set, if it is one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from sf2cli import console
from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.source import SUFFIXES
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.file_faces import FileFaces
from sf2cli.evaluation.pair_set import Faces
from sf2cli.files import file_sha256


@dataclass(frozen=True)
class ImageSource:
    """Images, and a hash of all of them in their order."""

    faces: Faces
    data_sha256: str


def open_images(source: Path) -> ImageSource:
    """The images of a packed set or a folder; those of a folder by their paths' bytes.

    Raises:
        Sf2Error: no such folder, no image in it, a damaged set, or a name with a line break.
    """
    if (source / MANIFEST_NAME).is_file():
        return ImageSource(PackedSet.open(source), file_sha256(source / MANIFEST_NAME))
    if not source.is_dir():
        raise Sf2Error(
            f"SOURCE {source}: no such folder", "Name a packed set or a folder of images."
        )
    files = sorted(
        (
            os.path.relpath(os.path.join(place, name), source)
            for place, _, names in os.walk(source)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ),
        key=os.fsencode,
    )
    if not files:
        raise Sf2Error(
            f"SOURCE {source}: no image in it (sought: {', '.join(SUFFIXES)})",
            "Name a packed set or a folder of images.",
        )
    broken = [name for name in files if "\n" in name or "\r" in name]
    if broken:
        raise Sf2Error(f"SOURCE {source}: the name {broken[0]!r} holds a line break", "Rename it.")
    faces = FileFaces(source, files)
    digest = hashlib.sha256()
    with console.progress("hash images", len(files), "images") as line:
        for i, name in enumerate(files):
            digest.update(hashlib.sha256(os.fsencode(name)).digest())
            digest.update(hashlib.sha256(faces.read(i)).digest())
            line.advance()
    return ImageSource(faces, digest.hexdigest())
