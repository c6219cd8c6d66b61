"""Which face draws which character: by its ink, since fonts list characters that they lack."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.glyphs.drawing import FontFace
from sf2cli.data.glyphs.faces import Face


def coverage(faces: Sequence[Face], codes: Sequence[int], size: int) -> NDArray[np.bool_]:
    """Whether each face has a picture of each character that is no other character's too.

    A face that draws one box for all that it lacks has no picture of any of them, and one that
    draws A and Alpha alike has a picture of neither.

    Args:
        faces: the faces.
        codes: code points.
        size: edge of the picture in pixels.

    Returns:
        bool [faces, codes].
    """
    found = np.zeros((len(faces), len(codes)), np.bool_)
    with console.progress("look at fonts", len(faces), unit="faces") as line:
        for row, face in zip(found, faces, strict=True):
            _look(FontFace(face.path, face.index, size), codes, row)
            line.advance()
    return found


def _look(face: FontFace, codes: Sequence[int], row: NDArray[np.bool_]) -> None:
    first: dict[tuple[int, int, bytes], int] = {}
    for column, code in enumerate(codes):
        ink = face.ink(code)
        if ink is None:
            continue
        picture = (*ink.shape, blake2b(ink.tobytes(), digest_size=16).digest())
        earlier = first.setdefault(picture, column)
        row[column] = earlier == column
        if earlier != column:
            row[earlier] = False
