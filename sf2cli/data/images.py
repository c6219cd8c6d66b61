"""Decoding of encoded images to uint8 arrays, with limits that a hostile file cannot pass."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

MAX_PIXELS = 64_000_000


class BadImageError(ValueError):
    """Bytes that are not a readable image; the message says why."""


def decode_image(data: bytes, channels: int) -> NDArray[np.uint8]:
    """Decode JPEG, PNG, PGM, BMP or WebP bytes.

    Args:
        data: the encoded image.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma for colour input).

    Returns:
        uint8 [height, width, channels].

    Raises:
        BadImageError: empty, truncated, unknown format, or over MAX_PIXELS pixels.
    """
    if not data:
        raise BadImageError("empty file")
    if data[:3] == b"\xff\xd8\xff":
        fast = _decode_jpeg(data, channels)
        if fast is not None:
            return fast
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(f"{image.width} x {image.height} pixels is over the limit")
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"), dtype=np.uint8)
    except BadImageError:
        raise
    except Exception as failure:
        raise BadImageError(f"not a readable image ({failure})") from None
    return pixels if channels == 3 else pixels[:, :, None]


def _decode_jpeg(data: bytes, channels: int) -> NDArray[np.uint8] | None:
    """libjpeg-turbo's decoding of the common case; None where Pillow should try."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise BadImageError(f"{width} x {height} pixels is over the limit")
        if colour not in ("YCbCr", "Gray", "RGB"):
            return None
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="RGB" if channels == 3 else "GRAY"
        )
    except BadImageError:
        raise
    except ValueError as failure:
        raise BadImageError(f"corrupt JPEG ({failure})") from None
    return decoded


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize [h, w, c] to [size, size, c] (bilinear with antialiasing); unchanged if it fits."""
    if pixels.shape[:2] == (size, size):
        return pixels
    channels = pixels.shape[2]
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    return scaled if channels == 3 else scaled[:, :, None]
