"""A character drawn by a face of a font: FreeType's outlines, without hints or stored bitmaps."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf2cli.errors import Sf2Error

_UNREADABLE = "Leave the font out, or install it again."


def freetype() -> ModuleType:
    """The module freetype.

    Raises:
        Sf2Error: it is not installed.
    """
    try:
        import freetype as module
    except ImportError:
        raise Sf2Error(
            "SOURCE fonts: freetype-py, which draws the characters, is not installed",
            "pip install 'sf2[fonts]'",
        ) from None
    found: ModuleType = module
    return found


class FontFace:
    """One face of a font file, at an em of seven eighths of the picture's edge.

    Args:
        path: the font.
        index: the face within it.
        size: the picture's edge in pixels.

    Raises:
        Sf2Error: no font, or no such face in it.
    """

    def __init__(self, path: Path, index: int, size: int) -> None:
        ft = freetype()
        self.size = size
        try:
            self._face = ft.Face(str(path), index)
            self._face.set_pixel_sizes(size * 7 // 8, size * 7 // 8)
        except ft.FT_Exception as failure:
            raise Sf2Error(f"SOURCE: {path}: no face {index} ({failure})", _UNREADABLE) from None
        charmap = self._face.charmap
        self._unicode = charmap is not None and charmap.encoding == ft.FT_ENCODING_UNICODE
        self._flags = ft.FT_LOAD_RENDER | ft.FT_LOAD_NO_HINTING | ft.FT_LOAD_NO_BITMAP
        self._failure: type[Exception] = ft.FT_Exception
        self._grey = ft.FT_PIXEL_MODE_GRAY

    def ink(self, code: int) -> NDArray[np.uint8] | None:
        """The character's own rectangle, uint8 [h, w], 255 being ink.

        None where the face has no such character, or draws nothing for it: several fonts list
        characters that are blank.
        """
        glyph = self._face.get_char_index(code) if self._unicode else 0
        if not glyph:
            return None
        try:
            self._face.load_glyph(glyph, self._flags)
        except self._failure:
            return None
        # The public `buffer` makes a list of it, number by number.
        bitmap = self._face.glyph.bitmap._FT_Bitmap
        rows, pitch = bitmap.rows, bitmap.pitch
        if not rows or not bitmap.width or bitmap.pixel_mode != self._grey or pitch <= 0:
            return None
        raw = np.frombuffer(ctypes.string_at(bitmap.buffer, rows * pitch), np.uint8)
        pixels = raw.reshape(rows, pitch)[:, : bitmap.width]
        return pixels if pixels.any() else None

    def picture(self, code: int) -> NDArray[np.uint8] | None:
        """The character in the middle of a square, uint8 [size, size]; shrunk if it is larger."""
        ink = self.ink(code)
        if ink is None:
            return None
        longest = max(ink.shape)
        if longest > self.size:
            height, width = (max(1, edge * self.size // longest) for edge in ink.shape)
            image = Image.fromarray(np.ascontiguousarray(ink))
            ink = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        top, left = ((self.size - edge) // 2 for edge in ink.shape)
        square = np.zeros((self.size, self.size), np.uint8)
        square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        return square
