"""Characters as identities, with the faces of fonts as their pictures.

An identity is `U+5B57`; a key is `U+5B57/seen-012-0`: the face's role, its number in the
manifest, and which drawing of it this is. What a picture looks like depends on the settings and
its key alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.glyphs.characters import character_name, code_points
from sf2cli.data.glyphs.coverage import coverage
from sf2cli.data.glyphs.drawing import FontFace
from sf2cli.data.glyphs.faces import ROLES, find_faces
from sf2cli.data.glyphs.nuisances import disturb
from sf2cli.data.glyphs.settings import GlyphSettings
from sf2cli.data.images import BadImageError, encode_png
from sf2cli.data.order import epoch_order
from sf2cli.data.sources.source import SourceIdentity, SourceImage, SourceImages
from sf2cli.errors import Sf2Error

# Of PCG64's keys: which faces a character gets, and how one of its pictures comes out.
_FACES, _PICTURE = 0, 1


class _Picture(NamedTuple):
    face: int
    draw: int


class _Opened(threading.local):
    """The faces that a thread has opened: FreeType allows no two threads one face."""

    def __init__(self) -> None:
        self.faces: dict[int, FontFace] = {}


class FontsSource:
    """The characters and faces that `settings` choose.

    Args:
        settings: all of it.
        file: the file that they were read from, if any.
    """

    def __init__(self, settings: GlyphSettings, file: Path | None = None) -> None:
        self._settings, self._file = settings, file
        self._faces = find_faces(settings)
        self._opened = _Opened()

    @property
    def description(self) -> dict[str, Any]:
        settings = self._settings.model_dump(mode="json", exclude={"faces", "root"})
        faces = [
            {
                "number": face.number,
                "file": face.path.name,
                "index": face.index,
                "role": face.role,
                "sha256": face.sha256,
            }
            for face in self._faces
        ]
        return {"kind": "fonts", "settings": settings, "faces": faces}

    @property
    def places(self) -> list[Path]:
        return [path for path in (self._file, self._settings.faces) if path is not None]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: no character that enough faces draw, or fewer than the split takes.
        """
        return map(self._identity, self._chosen.tolist())

    def _identity(self, column: int) -> SourceIdentity:
        code, name = self._codes[column], character_name(self._codes[column])

        def image(row: _Picture) -> SourceImage:
            face = self._faces[row.face]
            return SourceImage(
                f"{name}/{face.role}-{face.number:03d}-{row.draw}",
                f"{name} by {face.path}",
                lambda: self._draw(code, row),
            )

        return SourceIdentity(name, SourceImages(self._pictures(column, code), image))

    def _pictures(self, column: int, code: int) -> list[_Picture]:
        rows: list[_Picture] = []
        for part, (role, wanted) in enumerate(zip(ROLES, self._wanted, strict=True)):
            if not wanted:
                continue
            able = np.flatnonzero(self._covered[:, column] & self._of_role(role))
            bits = np.random.PCG64([self._settings.seed, code, _FACES, part])
            order = able[np.argsort(bits.random_raw(len(able)), kind="stable")].tolist()
            rows += [_Picture(order[i % len(able)], i // len(able)) for i in range(wanted)]
        return rows

    def _draw(self, code: int, row: _Picture) -> bytes:
        face, settings = self._faces[row.face], self._settings
        opened = self._opened.faces
        if row.face not in opened:
            opened[row.face] = FontFace(face.path, face.index, settings.size)
        picture = opened[row.face].picture(code)
        if picture is None:
            raise BadImageError("the font draws nothing for it any more")
        key = (settings.seed, code, _PICTURE, face.number, row.draw)
        return encode_png(disturb(picture, settings, key)[:, :, None])

    @property
    def _wanted(self) -> tuple[int, int]:
        return self._settings.seen_images, self._settings.unseen_images

    def _of_role(self, role: str) -> NDArray[np.bool_]:
        return np.array([face.role == role for face in self._faces])

    @cached_property
    def _codes(self) -> list[int]:
        return code_points(self._settings.characters)

    @cached_property
    def _covered(self) -> NDArray[np.bool_]:
        return coverage(self._faces, self._codes, self._settings.size)

    @cached_property
    def _chosen(self) -> NDArray[np.int64]:
        """The columns of the characters in this part of the split, ascending."""
        settings = self._settings
        enough = np.ones(len(self._codes), np.bool_)
        for role, least in zip(ROLES, (settings.min_seen, settings.min_unseen), strict=True):
            enough &= self._covered[self._of_role(role)].sum(axis=0) >= least
        able = np.flatnonzero(enough)
        held_out = settings.test + settings.val
        needed = held_out + (settings.train or 1) * (settings.part in ("train", "all"))
        if len(able) < max(1, needed):
            raise Sf2Error(
                f"SOURCE fonts: {len(able)} of {len(self._codes)} characters are drawn by"
                f" {settings.min_seen} seen and {settings.min_unseen} unseen faces or more; the"
                f" split takes {max(1, needed)}",
                "Lower min_seen, min_unseen or the parts, add fonts, or choose other characters.",
            )
        if settings.part == "all":
            return able
        # The parts at the front stay what they are when `train` changes.
        order = able[epoch_order(len(able), settings.split_seed, 0)]
        parts = {
            "test": order[: settings.test],
            "val": order[settings.test : held_out],
            "train": order[held_out:][: settings.train],
        }
        part = np.sort(parts[settings.part])
        if not len(part):
            raise Sf2Error(f"SOURCE fonts: part is {settings.part}, and {settings.part} is 0")
        return part
