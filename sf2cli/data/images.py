"""Decoding of encoded images to uint8 arrays, with limits that a hostile file cannot pass."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 64_000_000
# Pillow knows formats that start other programs (EPS) or hold many pages: only these are opened.
# Imported here, they need not be looked for among all its plugins when the first file is opened.
_FORMATS = tuple(
    kind.format for kind in (JpegImageFile, PngImageFile, PpmImageFile, BmpImageFile, WebPImageFile)
)
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_SCAN = b"\xff\xda"
# Longer ones hold pictures or colour profiles of their own.
_JPEG_HEAD_BYTES = 2048
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Its own limit is higher, warns first, and would be told as an unknown format.
Image.MAX_IMAGE_PIXELS = None
# It warns of odd metadata and of transparency, on which the pixels that are kept do not depend.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
_COLOURS = {1: "GRAY", 3: "RGB"}
_JPEG_COLOURS = ("YCbCr", "Gray", "RGB")
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B")


class BadImageError(ValueError):
    """Bytes that are not a readable image; the message says why."""


@dataclass(frozen=True)
class ImageHeader:
    """What an encoded image says of itself; `kind` goes by its content, not its file name."""

    kind: Literal["jpg", "png", "other"]
    height: int
    width: int
    grey: bool


def read_header(data: bytes) -> ImageHeader:
    """Read the size and colours of an encoded image without decoding it.

    Raises:
        BadImageError: empty, unknown format, or over MAX_PIXELS pixels.
    """
    kind: Literal["jpg", "png", "other"] = "other"
    if data.startswith(_JPEG_MAGIC):
        kind = "jpg"
    elif data.startswith(_PNG_MAGIC):
        kind = "png"
    with _open(data) as image:
        return ImageHeader(kind, image.height, image.width, image.mode in _GREY_MODES)


def check_jpeg(data: bytes) -> ImageHeader | None:
    """Decode a JPEG of the common kinds at an eighth of its size, to find damage.

    The whole of its data is read as when it is decoded in full, and the same damage is found;
    what is spared is the arithmetic on pixels, half of the time. None where `decode_image` must
    try: it is no JPEG, or of a rare kind.

    Raises:
        BadImageError: truncated, damaged, or over MAX_PIXELS pixels.
    """
    header = _jpeg_header(data)
    if header is None:
        return None
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as failure:
        raise BadImageError(f"corrupt JPEG ({failure})") from None
    return header


def decode_image(data: bytes, channels: int) -> NDArray[np.uint8]:
    """Decode JPEG, PNG, PNM, BMP or WebP bytes.

    Alpha is dropped; of 16 bits a sample the upper 8 are kept; orientation tags are not applied.

    Args:
        data: the encoded image.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma for colour input).

    Returns:
        uint8 [height, width, channels].

    Raises:
        BadImageError: empty, truncated, unknown format, or over MAX_PIXELS pixels.
    """
    fast = _decode_jpeg(data, channels)
    if fast is not None:
        return fast
    with _open(data) as image:
        try:
            pixels = _to_uint8(image, channels)
        except Exception as failure:
            raise BadImageError(f"not a readable image ({failure})") from None
    return pixels if channels == 3 else pixels[:, :, None]


def decode_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """Decode an image and resize it to fill `out`, with `decode_image`'s pixels and errors.

    Args:
        data: the encoded image.
        out: uint8 [S, S, C], C-contiguous; C = 3 for RGB, 1 for grey. Undefined after an error.
    """
    if data.startswith(_JPEG_MAGIC) and _decode_jpeg_into(data, out):
        return
    out[:] = resize(decode_image(data, out.shape[2]), out.shape[0])


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [h, w, c], c = 3 (RGB) or 1 (grey), without loss."""
    stream = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(stream, "PNG")
    return stream.getvalue()


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize [h, w, c] to [size, size, c] (bilinear with antialiasing); unchanged if it fits."""
    if pixels.shape[:2] == (size, size):
        return pixels
    channels = pixels.shape[2]
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    return scaled if channels == 3 else scaled[:, :, None]


def _open(data: bytes) -> Image.Image:
    """Pillow's view of the image, its header read and its size within the limit."""
    if not data:
        raise BadImageError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=list(_FORMATS))
    except Exception:
        raise BadImageError("not a JPEG, PNG, PNM, BMP or WebP image") from None
    _check_pixels(image.width, image.height)
    return image


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels is over the limit of {MAX_PIXELS}")


def _to_uint8(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit samples at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB" if channels == 3 else "L"), dtype=np.uint8)


def _decode_jpeg(data: bytes, channels: int) -> NDArray[np.uint8] | None:
    """libjpeg-turbo's decoding of the common case; None where Pillow should try."""
    if _jpeg_header(data) is None:
        return None
    try:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace=_COLOURS[channels])
    except ValueError as failure:
        raise BadImageError(f"corrupt JPEG ({failure})") from None
    return decoded


def _jpeg_header(data: bytes) -> ImageHeader | None:
    """The header of a JPEG that libjpeg-turbo decodes to grey and RGB; None for all else."""
    if not data.startswith(_JPEG_MAGIC):
        return None
    # The images of a set begin with the same bytes as a rule, up to those of the picture itself.
    scan = data.find(_JPEG_SCAN, 0, _JPEG_HEAD_BYTES)
    length = int.from_bytes(data[scan + 2 : scan + 4], "big")
    header = _known_jpeg_header(data[: scan + 2 + length]) if scan > 0 else None
    # Those two bytes may have been within a thumbnail.
    header = header or _parsed_jpeg_header(data)
    if header is not None:
        _check_pixels(header.width, header.height)
    return header


def _parsed_jpeg_header(data: bytes) -> ImageHeader | None:
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colour not in _JPEG_COLOURS:
        return None
    return ImageHeader("jpg", height, width, colour == "Gray")


_known_jpeg_header = lru_cache(maxsize=16)(_parsed_jpeg_header)


def _decode_jpeg_into(data: bytes, out: NDArray[np.uint8]) -> bool:
    """Decode a JPEG of `out`'s size where it is to be; False where `decode_image` should try."""
    size, _, channels = out.shape
    header = _jpeg_header(data)
    if header is None or (header.height, header.width) != (size, size):
        return False
    try:
        simplejpeg.decode_jpeg(data, colorspace=_COLOURS[channels], buffer=out)
    except ValueError:
        return False
    return True
