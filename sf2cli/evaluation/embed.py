"""Embeddings of a packed set: flip-sum of a trained backbone, and raw pixels as the baseline."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from sf2cli import console
from sf2cli.backbones.saved import ModelCard, normalise
from sf2cli.data.loader import iterate_images
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error

_BATCH = 64


@torch.inference_mode()
def embed_set(packed: PackedSet, model: nn.Module | None, card: ModelCard) -> NDArray[np.float32]:
    """Unit-length f(x) + f(mirrored x) of every image, float32 [N, d], in the set's order.

    Args:
        model: the backbone, in eval mode; None takes the pixels themselves as f.

    Raises:
        Sf2Error: an embedding that is not finite, named by its image.
    """
    size, channels = card.backbone.image_size, card.backbone.channels
    rows = []
    with console.progress("embed" if model else "raw pixels", len(packed), "images") as line:
        for images in iterate_images(
            packed, np.arange(len(packed)), _BATCH, size, channels, workers=0
        ):
            floats = normalise(images, card.preprocessing) if model else images.float()
            mirrored = floats.flip(3)
            both = model(floats) + model(mirrored) if model else (floats + mirrored).flatten(1)
            rows.append(F.normalize(both.float()))
            line.advance(len(images))
    embeddings: NDArray[np.float32] = torch.cat(rows).numpy()
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise Sf2Error(
            f"{len(bad)} embeddings are not finite, the first of {packed.source(int(bad[0]))}",
            "The model's weights are damaged or its training diverged.",
        )
    return embeddings
