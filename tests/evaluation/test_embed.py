"""Embeddings are what the report says they are; images that cannot be read are counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sf2cli.backbones.saved import Preprocessing
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import NetworkEmbedder, pixels, torch_network
from sf2cli.evaluation.embedder import EmbedderCard


class Linear(nn.Module):
    """A backbone that tells left from right."""

    def __init__(self, inputs, outputs=5):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Arrays:
    """Faces from an array [n, h, w, c]; those in `broken` cannot be read."""

    def __init__(self, images, broken=()):
        self.images, self.broken = images, broken

    def __len__(self):
        return len(self.images)

    def decode(self, i, image_size, channels):
        if i in self.broken:
            raise Sf2Error(f"image {i}: corrupt", "Mend it.")
        assert self.images[i].shape == (image_size, image_size, channels)
        return self.images[i]

    def source(self, i):
        return f"image {i}"


def card(channels, mirrored=True, colour=None):
    return EmbedderCard(
        place=Path("x"),
        kind="test",
        network="Linear",
        embedding_size=5,
        image_size=4,
        preprocessing=Preprocessing(colour=colour or ("L" if channels == 1 else "RGB")),
        mirrored=mirrored,
        sha256="0" * 64,
    )


def embed(faces, model, made):
    return NetworkEmbedder(made, torch_network(model, made), "cpu").embed(faces, "test")


def random_images(n, channels):
    return np.random.default_rng(0).integers(0, 256, (n, 4, 4, channels), np.uint8)


@pytest.mark.parametrize(
    ("channels", "colour", "mirrored"),
    [(1, "L", True), (3, "RGB", True), (3, "BGR", True), (3, "RGB", False)],
)
@pytest.mark.parametrize("n", [1, 64, 65, 130])
def test_embedding_and_pixels_are_as_defined(channels, colour, mirrored, n):
    images = random_images(n, channels)
    model = Linear(16 * channels)
    found = embed(Arrays(images), model, card(channels, mirrored, colour))
    rows = pixels(Arrays(images), card(channels), "test")
    weight = model.weight.detach().double().numpy()
    for i in range(n):
        floats = (images[i].astype(np.float64) - 127.5) / 127.5
        ordered = floats[:, :, ::-1] if colour == "BGR" else floats
        views = (ordered, ordered[:, ::-1]) if mirrored else (ordered,)
        expected = sum(weight @ view.transpose(2, 0, 1).reshape(-1) for view in views)
        np.testing.assert_allclose(found[i], expected, atol=1e-4)
        np.testing.assert_array_equal(rows[i], images[i].transpose(2, 0, 1).reshape(-1))
    assert (found.dtype, rows.dtype) == (np.float32, np.uint8)


def test_one_unreadable_image_keeps_its_message():
    with pytest.raises(Sf2Error, match=r"^image 3: corrupt\n  Mend it\.$"):
        embed(Arrays(random_images(9, 1), broken={3}), Linear(16), card(1))


def test_several_unreadable_images_are_counted():
    faces = Arrays(random_images(200, 1), broken={3, 70, 199})
    with pytest.raises(Sf2Error, match="image 3: corrupt; 3 of 200 images cannot be read"):
        embed(faces, Linear(16), card(1))


def test_embeddings_that_are_not_finite_are_refused():
    images = random_images(70, 1)
    images[66] = 255
    model = Linear(16)
    with torch.no_grad():
        model.weight[:] = 1e38
    images[:66] = 127
    with pytest.raises(Sf2Error, match="1 of 67 embeddings is not finite, the first of image 66"):
        embed(Arrays(images[:67]), model, card(1))
