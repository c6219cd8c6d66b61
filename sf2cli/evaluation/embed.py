"""Embeddings of images: flip-sum of a trained backbone; and their pixels, for the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from sf2cli import console
from sf2cli.backbones.saved import ModelCard, normalise
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.pair_set import Faces

_BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """One row an image: `model` float32 [n, embedding_size], unit length, and `pixels` uint8
    [n, channels * image_size ** 2], the very values that the model was given."""

    model: NDArray[np.float32]
    pixels: NDArray[np.uint8]


@torch.inference_mode()
def embed(faces: Faces, model: nn.Module, card: ModelCard, description: str) -> Embedded:
    """f(x) + f(mirrored x), scaled to unit length, of every image, and the images' pixels.

    Args:
        faces: the images, each read once.
        model: the backbone f in eval mode, on any device.
        card: how its input is made.
        description: of the progress display.

    Raises:
        Sf2Error: images that cannot be read (the first is named, all are counted), or an embedding
            that is not finite.
    """
    size, channels = card.backbone.image_size, card.backbone.channels
    device = next(model.parameters()).device
    pixels = np.empty((len(faces), channels, size, size), np.uint8)
    rows: list[torch.Tensor] = []
    unreadable: list[Sf2Error] = []
    with console.progress(description, len(faces), "images") as line:
        for start in range(0, len(faces), _BATCH):
            batch = pixels[start : start + _BATCH]
            unreadable += _decode(faces, start, batch)
            # Once one image is bad the rest is read only to count.
            if not unreadable:
                images = normalise(torch.from_numpy(batch).to(device), card.preprocessing)
                rows.append(unit_embeddings(model, images).cpu())
            line.advance(len(batch))
    if unreadable:
        raise _unreadable(unreadable, len(faces))
    embeddings: NDArray[np.float32] = torch.cat(rows).numpy()
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise Sf2Error(
            f"{len(bad)} embeddings are not finite, the first of {faces.source(int(bad[0]))}",
            "The model's weights are damaged or its training diverged.",
        )
    return Embedded(embeddings, pixels.reshape(len(faces), -1))


def unit_embeddings(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """f(x) + f(mirrored x), scaled to unit length: float32 [B, embedding_size].

    Args:
        model: the backbone f in eval mode.
        images: [B, C, H, W] as f takes them, on its device.
    """
    return F.normalize((model(images) + model(images.flip(3))).float())


def _decode(faces: Faces, start: int, batch: NDArray[np.uint8]) -> list[Sf2Error]:
    """Fill `batch` [B, C, H, W] with the images from `start` on; the errors of those that fail."""
    failures = []
    channels, size = batch.shape[1:3]
    for k in range(len(batch)):
        try:
            batch[k] = faces.decode(start + k, size, channels).transpose(2, 0, 1)
        except Sf2Error as failure:
            failures.append(failure)
    return failures


def _unreadable(failures: list[Sf2Error], images: int) -> Sf2Error:
    first = failures[0]
    if len(failures) == 1:
        return first
    return Sf2Error(
        f"{first.message}; {len(failures)} of {images} images cannot be read", first.remedy
    )
