import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sf2cli.data.images import (
    MAX_PIXELS,
    BadImageError,
    check_jpeg,
    decode_image,
    decode_into,
    encode_png,
    read_header,
    resize,
)
from tests.pictures import encode, noise

RGB = noise(24, 17)
GREY = noise(24, 17, 0)
# ITU-R 601, what "L" means to Pillow and to libjpeg.
LUMA = np.array([0.299, 0.587, 0.114])


def huge_png(width, height):
    """The header of a PNG of any size, with next to no data behind it."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def huge_jpeg(width, height):
    """A JPEG whose frame header claims another size."""
    data = bytearray(encode(RGB, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP"])
def test_lossless_formats_give_the_pixels(kind):
    assert (decode_image(encode(RGB, kind), 3) == RGB).all()
    assert (decode_image(encode(GREY, kind), 1)[:, :, 0] == GREY).all()


def test_webp():
    assert (decode_image(encode(RGB, "WEBP", lossless=True), 3) == RGB).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_reads(options, channels):
    # Smooth, so that the two decoders' chroma upsampling hardly differs.
    smooth = np.asarray(Image.fromarray(noise(3, 3)).resize((40, 24), Image.Resampling.BICUBIC))
    data = encode(smooth, "JPEG", quality=95, **options)
    with Image.open(io.BytesIO(data)) as image:
        oracle = np.asarray(image.convert("RGB" if channels == 3 else "L"), dtype=np.int64)
    found = decode_image(data, channels)
    assert found.shape == (24, 40, channels)
    assert np.abs(found.reshape(oracle.shape) - oracle).max() <= 2


def test_cmyk_jpeg():
    data = encode(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100)
    with Image.open(io.BytesIO(data)) as image:
        oracle = np.asarray(image.convert("RGB"))
    assert (decode_image(data, 3) == oracle).all()


def test_grey_and_colour_convert_into_one_another():
    assert (decode_image(encode(GREY, "PNG"), 3) == GREY[:, :, None]).all()
    luma = decode_image(encode(RGB, "PNG"), 1)[:, :, 0]
    assert np.abs(luma - RGB @ LUMA).max() <= 1


def test_alpha_is_dropped():
    rgba = np.concatenate([RGB, GREY[:, :, None]], axis=2)
    assert (decode_image(encode(rgba, "PNG"), 3) == RGB).all()
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(RGB[:, :, 0])])
    assert (decode_image(encode(grey_alpha, "PNG"), 1)[:, :, 0] == GREY).all()


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_16_bits_keep_the_upper_8(kind):
    deep = np.random.default_rng(0).integers(0, 2**16, (9, 7), dtype=np.uint16)
    data = encode(deep, kind)
    assert read_header(data).grey
    assert (decode_image(data, 1)[:, :, 0] == deep >> 8).all()
    assert (decode_image(data, 3) == (deep >> 8)[:, :, None]).all()


@pytest.mark.parametrize(
    ("data", "kind", "grey"),
    [
        (encode(RGB, "JPEG"), "jpg", False),
        (encode(GREY, "JPEG"), "jpg", True),
        (encode(RGB, "PNG"), "png", False),
        (encode(GREY, "PNG"), "png", True),
        (encode(Image.fromarray(GREY).convert("1"), "PNG"), "png", True),
        (encode(Image.fromarray(RGB).quantize(8), "PNG"), "png", False),
        (encode(GREY, "PPM"), "other", True),
        (encode(RGB, "BMP"), "other", False),
    ],
)
def test_header(data, kind, grey):
    header = read_header(data)
    assert (header.kind, header.height, header.width, header.grey) == (kind, 24, 17, grey)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "not a JPEG, PNG, PNM, BMP or WebP image"),
        (encode(RGB, "JPEG")[:10], "not a JPEG"),
        (encode(RGB, "PNG")[:200], "truncated"),
        (encode(RGB, "BMP")[:-10], "truncated"),
        (encode(RGB, "PPM")[:-1], "truncated"),
        (encode(Image.fromarray(RGB).convert("CMYK"), "JPEG")[:-400], "truncated"),
    ],
)
def test_bad_images_say_why(data, reason):
    with pytest.raises(BadImageError, match=reason):
        decode_image(data, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 40, 500])
def test_a_truncated_jpeg_is_no_image(lost, progressive):
    data = encode(noise(64, 64), "JPEG", progressive=progressive)
    with pytest.raises(BadImageError, match="corrupt JPEG"):
        decode_image(data[:-lost], 3)


def with_thumbnail(picture, thumbnail):
    """A JPEG with another one whole in a segment at its beginning, as cameras write them."""
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    return picture[:2] + segment + picture[2:]


@pytest.mark.parametrize("size", [8, 40])
def test_a_thumbnail_is_not_the_picture(size):
    picture, thumbnail = encode(RGB, "JPEG"), encode(noise(size, size), "JPEG", quality=10)
    # Twice: what is known of its beginning by then is of the picture, too.
    for _ in range(2):
        header = check_jpeg(with_thumbnail(picture, thumbnail))
        assert header is not None
        assert (header.height, header.width, header.grey) == (24, 17, False)
        pixels = decode_image(with_thumbnail(picture, thumbnail), 3)
        assert np.array_equal(pixels, decode_image(picture, 3))


@pytest.mark.parametrize("kept", range(16))
def test_a_jpeg_that_ends_where_its_pixels_would_begin(kept):
    data = encode(GREY, "JPEG")
    check_jpeg(data)
    cut = data[: data.index(b"\xff\xda") + kept]
    with pytest.raises(BadImageError):
        decode_image(cut, 1)


def test_formats_that_start_programs_are_not_opened():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    with pytest.raises(BadImageError, match="not a JPEG"):
        decode_image(eps, 3)


# Pillow's own limits, at 89 and 179 million pixels, must not speak before ours.
@pytest.mark.parametrize("edge", [8001, 10_000, 60_000])
@pytest.mark.parametrize("make", [huge_png, huge_jpeg])
def test_pixel_limit(edge, make):
    data = make(edge, edge)
    assert edge * edge > MAX_PIXELS
    for read in (read_header, lambda data: decode_image(data, 3)):
        with pytest.raises(BadImageError, match=rf"{edge} x {edge} pixels is over the limit"):
            read(data)


def test_png_reads_back():
    for pixels in (RGB, GREY[:, :, None]):
        assert (decode_image(encode_png(pixels), pixels.shape[2]) == pixels).all()


def test_resize():
    square = noise(16, 16)
    assert resize(square, 16) is square
    for channels in (1, 3):
        flat = np.full((31, 20, channels), 77, dtype=np.uint8)
        scaled = resize(flat, 8)
        assert scaled.shape == (8, 8, channels)
        assert scaled.dtype == np.uint8
        assert (scaled == 77).all()


def test_resize_averages_when_it_shrinks():
    stripes = np.zeros((64, 64, 1), dtype=np.uint8)
    stripes[:, ::2] = 254
    inner = resize(stripes, 8)[:, 1:-1]
    assert np.abs(inner.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["jpeg", "small", "large", "wide", "png", "cmyk", "grey"])
def test_decode_into_gives_the_pixels_of_decode_and_resize(kind, channels):
    height, width = {"small": (9, 9), "large": (40, 40), "wide": (8, 32)}.get(kind, (16, 16))
    picture = Image.fromarray(noise(height, width))
    mode = {"cmyk": "CMYK", "grey": "L"}.get(kind, "RGB")
    data = encode(picture.convert(mode), "PNG" if kind == "png" else "JPEG")
    batch = np.full((3, 16, 16, channels), 7, dtype=np.uint8)
    decode_into(data, batch[1])
    np.testing.assert_array_equal(batch[1], resize(decode_image(data, channels), 16))
    assert (batch[[0, 2]] == 7).all()


def test_decode_into_refuses_what_decode_refuses():
    good = encode(noise(16, 16), "JPEG")
    for data in (b"", b"????", good[: len(good) // 2], good[:2] + bytes(100)):
        with pytest.raises(BadImageError):
            decode_into(data, np.empty((16, 16, 3), dtype=np.uint8))
