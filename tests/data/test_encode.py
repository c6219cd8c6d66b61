import numpy as np
import pytest

from sf2cli.data.encode import stored_form
from sf2cli.data.images import BadImageError, decode_image
from tests.pictures import encode, noise

RGB = noise(20, 20)
GREY = noise(20, 20, 0)


@pytest.mark.parametrize(
    ("data", "kind", "grey"),
    [
        (encode(RGB, "JPEG"), "jpg", False),
        (encode(GREY, "JPEG"), "jpg", True),
        (encode(RGB, "PNG"), "png", False),
    ],
)
def test_jpeg_and_png_are_stored_as_they_are(data, kind, grey):
    image = stored_form(data, None, None)
    assert (image.data, image.kind, image.grey) == (data, kind, grey)
    assert (image.height, image.width) == (20, 20)
    same = stored_form(data, 20, "grey" if grey else "rgb")
    assert same == image


@pytest.mark.parametrize("kind", ["BMP", "PPM"])
def test_other_formats_become_png_without_loss(kind):
    for pixels, channels in ((RGB, 3), (GREY, 1)):
        image = stored_form(encode(pixels, kind), None, None)
        assert (image.kind, image.grey) == ("png", channels == 1)
        assert (decode_image(image.data, channels).reshape(pixels.shape) == pixels).all()


def test_size_and_colour_change_what_is_stored():
    image = stored_form(encode(noise(30, 20), "JPEG"), 16, "grey")
    assert (image.kind, image.height, image.width, image.grey) == ("png", 16, 16, True)
    assert decode_image(image.data, 1).shape == (16, 16, 1)
    coloured = stored_form(encode(GREY, "JPEG"), None, "rgb")
    assert (coloured.kind, coloured.grey) == ("png", False)
    assert np.ptp(decode_image(coloured.data, 3), axis=2).max() == 0


def test_every_image_is_decoded_to_check_it():
    with pytest.raises(BadImageError, match="corrupt JPEG"):
        stored_form(encode(noise(64, 64), "JPEG")[:-100], None, None)
