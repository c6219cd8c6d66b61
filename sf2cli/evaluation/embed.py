"""Embeddings of images by a network, torch's or another's; and their pixels, for the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from sf2cli import console
from sf2cli.backbones.saved import normalise
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embedder import EmbedderCard, Network
from sf2cli.evaluation.pair_set import Faces
from sf2cli.words import are, count_of

_BATCH = 64


@dataclass(frozen=True)
class NetworkEmbedder:
    """An embedder around any network that takes a batch of images."""

    card: EmbedderCard
    network: Network
    device: str

    def embed(self, faces: Faces, description: str) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        rows = [
            self.network(batch)
            for batch in _batches(faces, self.card.image_size, self.card.channels, description)
        ]
        embeddings = np.concatenate(rows)
        check_rows(embeddings, faces, "The model's weights are damaged or its training diverged.")
        return embeddings


def torch_network(module: nn.Module, card: EmbedderCard) -> Network:
    """A backbone in evaluation mode, on any device, as the network that `card` describes."""
    device = next(module.parameters()).device

    @torch.inference_mode()
    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = normalise(torch.from_numpy(batch).to(device), card.preprocessing)
        features = _features(module, images, card.mirrored)
        found: NDArray[np.float32] = features.float().cpu().numpy()
        return found

    return network


def pixels(faces: Faces, card: EmbedderCard, description: str) -> NDArray[np.uint8]:
    """The images as the embedder gets them, as rows: uint8 [n, channels * image_size ** 2].

    Raises:
        Sf2Error: images that cannot be read.
    """
    batches = _batches(faces, card.image_size, card.channels, description)
    return np.concatenate([batch.reshape(len(batch), -1) for batch in batches])


def check_rows(embeddings: NDArray[np.floating], faces: Faces, remedy: str) -> None:
    """Raises Sf2Error if a row holds NaN or infinity, or zeros alone, which point nowhere.

    The first is named, all are counted.
    """
    for sound, what in (
        (np.isfinite(embeddings).all(axis=1), "not finite"),
        (embeddings.any(axis=1), "all zeros"),
    ):
        places = np.flatnonzero(np.logical_not(sound))
        if len(places):
            all_of_them = count_of(len(embeddings), "embedding")
            raise Sf2Error(
                f"{len(places)} of {all_of_them} {are(len(places))} {what}, the"
                f" first of {faces.source(int(places[0]))}",
                remedy,
            )


def unit_embeddings(model: nn.Module, images: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """f(x), or f(x) + f(mirrored x), scaled to unit length: float32 [B, embedding_size].

    Args:
        model: the backbone f in eval mode.
        images: [B, C, H, W] as f takes them, on its device.
        mirrored: whether to add the mirrored images' features.
    """
    return F.normalize(_features(model, images, mirrored).float())


def _features(model: nn.Module, images: torch.Tensor, mirrored: bool) -> torch.Tensor:
    features: torch.Tensor = model(images)
    return features + model(images.flip(3)) if mirrored else features


def _batches(
    faces: Faces, size: int, channels: int, description: str
) -> Iterator[NDArray[np.uint8]]:
    """All images, decoded, [B, C, H, W] each time; the next batch while one is worked on."""
    unreadable: list[Sf2Error] = []
    starts = range(0, len(faces), _BATCH)
    with (
        console.progress(description, len(faces), "images") as line,
        ThreadPoolExecutor(1) as reader,
    ):
        ahead = reader.submit(_decode, faces, 0, size, channels)
        for start in starts:
            batch, failures = ahead.result()
            if start + _BATCH < len(faces):
                ahead = reader.submit(_decode, faces, start + _BATCH, size, channels)
            unreadable += failures
            # Once one image is bad the rest is read only to count.
            if not unreadable:
                yield batch
            line.advance(len(batch))
    if unreadable:
        raise _unreadable(unreadable, len(faces))


def _decode(
    faces: Faces, start: int, size: int, channels: int
) -> tuple[NDArray[np.uint8], list[Sf2Error]]:
    """A batch [B, C, H, W] of the images from `start` on; the errors of those that fail."""
    batch = np.zeros((min(_BATCH, len(faces) - start), channels, size, size), np.uint8)
    failures = []
    for k in range(len(batch)):
        try:
            batch[k] = faces.decode(start + k, size, channels).transpose(2, 0, 1)
        except Sf2Error as failure:
            failures.append(failure)
    return batch, failures


def _unreadable(failures: list[Sf2Error], images: int) -> Sf2Error:
    first = failures[0]
    if len(failures) == 1:
        return first
    return Sf2Error(
        f"{first.message}; {len(failures)} of {images} images cannot be read", first.remedy
    )
