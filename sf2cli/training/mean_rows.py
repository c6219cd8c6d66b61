"""First rows for new identities: where a trained backbone puts their images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf2cli import console
from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.data.bad_samples import BadSamples
from sf2cli.data.packed import BadSampleError, PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import unit_embeddings
from sf2cli.heads.surgery import NewRows
from sf2cli.recipe import DataRecipe

_IDENTITIES, _IMAGES = 1024, 64


def mean_rows(packed: PackedSet, backbone: nn.Module, data: DataRecipe, bad: BadSamples) -> NewRows:
    """The direction of the mean embedding of all images of an identity that can be read.

    Args:
        packed: the set that has the identities.
        backbone: in eval mode, on the device to work on.
        data: size and channels of its input.
        bad: counts and names the images that cannot be read.
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
                sums: Tensor | None = None
                for wanted in np.array_split(theirs, -(-len(theirs) // _IMAGES)):
                    line.advance(len(wanted))
                    samples, images = _images(packed, wanted, data, backbone, bad)
                    if not len(samples):
                        continue
                    rows = unit_embeddings(backbone, images, data.flip).cpu()
                    places = torch.searchsorted(some, torch.from_numpy(packed.labels[samples]))
                    if sums is None:
                        sums = torch.zeros(len(some), rows.shape[1])
                    sums = torch.zeros_like(sums).index_add_(0, places, rows) + sums
                if sums is None:
                    sums = torch.zeros(len(some), 1)
                _check(sums, some, packed)
                yield some, F.normalize(sums)

    return embed


def _images(
    packed: PackedSet, wanted: np.ndarray, data: DataRecipe, backbone: nn.Module, bad: BadSamples
) -> tuple[np.ndarray, Tensor]:
    """The samples that can be read, and the backbone's input for them."""
    size, channels = data.image_size, data.channels
    found: list[int] = []
    pixels = np.empty((len(wanted), size, size, channels), np.uint8)
    for i in wanted.tolist():
        try:
            pixels[len(found)] = packed.decode(i, size, channels)
        except BadSampleError as failure:
            bad.add({i: failure.message})
        else:
            found.append(i)
    images = torch.from_numpy(pixels[: len(found)]).permute(0, 3, 1, 2).contiguous()
    device = next(backbone.parameters()).device
    ready = normalise(images.to(device), Preprocessing.for_channels(channels))
    return np.array(found, dtype=np.int64), ready


def _check(sums: Tensor, ids: Tensor, packed: PackedSet) -> None:
    bad = ids[~(sums.norm(dim=1) > 1e-6)]
    if len(bad):
        name = packed.manifest.identities[int(bad[0])]
        raise Sf2Error(
            f"start.new_identities: the embeddings of identity {name!r} have no mean direction",
            "Say new_identities: random, or start from another run.",
        )
