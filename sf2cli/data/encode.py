"""An image as it goes into a shard: untouched where possible, else lossless PNG."""

from __future__ import annotations

from typing import Literal, NamedTuple

from sf2cli.data.images import check_jpeg, decode_image, encode_png, read_header, resize

Colour = Literal["rgb", "grey"]


class StoredImage(NamedTuple):
    """Encoded bytes for a shard, `kind` being the extension."""

    data: bytes | memoryview
    kind: Literal["jpg", "png"]
    height: int
    width: int
    grey: bool


def stored_form(data: bytes, size: int | None, colour: Colour | None) -> StoredImage:
    """Check an image by decoding it, and give it the form it is stored in.

    Args:
        data: an encoded image of any format that `decode_image` reads.
        size: edge in pixels to resize to; None keeps the size.
        colour: the colours to convert to; None keeps them.

    Raises:
        BadImageError: it cannot be decoded.
    """
    checked = check_jpeg(data)
    header = checked or read_header(data)
    grey = header.grey if colour is None else colour == "grey"
    fits = size is None or (header.height, header.width) == (size, size)
    kept = fits and grey == header.grey
    if checked is not None and kept:
        return StoredImage(data, "jpg", header.height, header.width, grey)
    pixels = decode_image(data, 1 if grey else 3)
    if kept and header.kind != "other":
        return StoredImage(data, header.kind, header.height, header.width, grey)
    if size is not None:
        pixels = resize(pixels, size)
    return StoredImage(encode_png(pixels), "png", pixels.shape[0], pixels.shape[1], grey)
