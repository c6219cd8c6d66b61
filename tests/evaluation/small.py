"""Small inputs for `sf2 eval`: photos, a packed set, a model, verification sets."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import save_model
from sf2cli.data.images import encode_png
from sf2cli.data.pack import PackOptions, pack

EDGE = 16


def photo(identity: int, image: int, channels: int = 1) -> np.ndarray:
    """uint8 [16, 16, channels]: the identity's pattern under the image's noise."""
    pattern = np.random.default_rng(identity).integers(0, 200, (EDGE, EDGE, channels))
    noise = np.random.default_rng([identity, image]).integers(0, 56, (EDGE, EDGE, channels))
    return (pattern + noise).astype(np.uint8)


def write_photos(root: Path, identities: int, images: int) -> Path:
    """PNGs as root/NAME/NAME_0001.png, NAME being id0, id1, ..."""
    for k in range(identities):
        folder = root / f"id{k}"
        folder.mkdir(parents=True)
        for i in range(images):
            (folder / f"id{k}_{i + 1:04d}.png").write_bytes(encode_png(photo(k, i)))
    return root


def write_set(folder: Path, photos: Path) -> Path:
    """The photos as a packed set."""
    pack(str(photos), folder, PackOptions())
    return folder


def write_model(folder: Path, channels: int = 1) -> Path:
    """An untrained model for 16 x 16 images."""
    torch.manual_seed(0)
    card = {"name": "sfnet4_bn", "embedding_size": 8, "image_size": EDGE, "channels": channels}
    state = build_backbone(**card).state_dict()
    save_model(folder, state, backbone=card, head={}, training={})
    return folder


def bin_images(pairs: Sequence[bool]) -> list[bytes]:
    """Two encoded images a pair: genuine pairs of identity 0, impostor pairs of 0 and 1."""
    images = []
    for k, same in enumerate(pairs):
        images += [encode_png(photo(0, 2 * k)), encode_png(photo(0 if same else 1, 2 * k + 1))]
    return images


def write_bin(path: Path, pairs: Sequence[bool]) -> Path:
    """A sound InsightFace .bin."""
    path.write_bytes(pickle.dumps((bin_images(pairs), list(pairs))))
    return path
