"""First rows for new identities: where a trained backbone puts their images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf2cli import console
from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import unit_embeddings
from sf2cli.heads.surgery import NewRows
from sf2cli.recipe import DataRecipe

_IDENTITIES, _IMAGES = 1024, 64


def mean_rows(packed: PackedSet, backbone: nn.Module, data: DataRecipe) -> NewRows:
    """The direction of the mean embedding of all images of an identity.

    Args:
        packed: the set that has the identities.
        backbone: in eval mode, on the device to work on.
        data: size and channels of its input.
    """

    @torch.inference_mode()
    def embed(ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if not len(ids):
            return
        mine = np.flatnonzero(np.isin(packed.labels, ids.numpy()))
        mine = mine[np.argsort(packed.labels[mine], kind="stable")]
        sorted_labels = packed.labels[mine]
        with console.progress("embed new identities", len(mine), "images") as line:
            for some in ids.split(_IDENTITIES):
                first, stop = np.searchsorted(sorted_labels, [some[0], some[-1] + 1])
                theirs = mine[first:stop]
                sums: Tensor | float = 0.0
                for samples in np.array_split(theirs, -(-len(theirs) // _IMAGES)):
                    images = _images(packed, samples, data, backbone)
                    rows = unit_embeddings(backbone, images, data.flip).cpu()
                    places = torch.searchsorted(some, torch.from_numpy(packed.labels[samples]))
                    zeros = torch.zeros(len(some), rows.shape[1])
                    sums = zeros.index_add_(0, places, rows) + sums
                    line.advance(len(samples))
                assert isinstance(sums, Tensor)
                _check(sums, some, packed)
                yield some, F.normalize(sums)

    return embed


def _images(
    packed: PackedSet, samples: np.ndarray, data: DataRecipe, backbone: nn.Module
) -> Tensor:
    size, channels = data.image_size, data.channels
    pixels = np.stack([packed.decode(int(i), size, channels) for i in samples])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    device = next(backbone.parameters()).device
    return normalise(images.to(device), Preprocessing.for_channels(channels))


def _check(sums: Tensor, ids: Tensor, packed: PackedSet) -> None:
    bad = ids[~(sums.norm(dim=1) > 1e-6)]
    if len(bad):
        name = packed.manifest.identities[int(bad[0])]
        raise Sf2Error(
            f"start.new_identities: the embeddings of identity {name!r} have no mean direction",
            "Say new_identities: random, or start from another run.",
        )
