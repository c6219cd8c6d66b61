"""One rank's share of the SphereFace2 loss, a tile of identities at a time.

The classifiers do not compete, so the gradient of a logit is known as soon as the logit is: a
tile's forward and backward are done together and its [B, tile] matrix is dropped before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.heads.sphereface2 import SphereFace2, negatives, positives


class ShardLoss(NamedTuple):
    """The loss of one shard's classifiers on a batch, and its derivatives.

    `sums` [2] float64 holds the loss and dL/db. `grad_features` [B, d] is with respect to the
    normalised features, `grad_weight` is [shard, d]; both None where no gradient was asked for.
    """

    sums: Tensor
    grad_features: Tensor | None
    grad_weight: Tensor | None


def row_tiles(rows: int, tile_size: int) -> Iterator[slice]:
    """Slices of at most `tile_size` that cover `rows` rows in order."""
    for start in range(0, rows, tile_size):
        yield slice(start, min(start + tile_size, rows))


@torch.no_grad()
def normalize_rows_(weight: Tensor, tile_size: int) -> None:
    """Bring every row of `weight` [shard, d] to unit length, in place."""
    for tile in row_tiles(len(weight), tile_size):
        weight[tile] = F.normalize(weight[tile])


@torch.no_grad()
def shard_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    hp: SphereFace2,
    *,
    scale: float,
    tile_size: int,
    gradients: bool,
) -> ShardLoss:
    """The loss of one shard's classifiers on the whole batch.

    Args:
        features: [B, d] of unit length, float32 or float64.
        weight: [shard, d] of unit length, same type.
        bias: scalar, same type.
        labels: [B] int64 on the CPU, relative to the shard's first class; a value outside
            [0, shard) says that another shard holds the positive.
        scale: factor on the loss and so on every derivative: loss weight over batch size.
        tile_size: classes at a time; the largest temporaries are [B, tile_size].
        gradients: whether to compute the derivatives by features and weight.
    """
    # Summed in float64: over millions of classes the addends of late tiles would be rounded away.
    sums = torch.zeros(2, dtype=torch.float64, device=weight.device)
    grad_features = torch.zeros_like(features) if gradients else None
    grad_weight = torch.empty_like(weight) if gradients else None
    scaled_features = features * scale
    tiles = row_tiles(len(weight), tile_size)
    owned = _positives_of_tiles(labels, len(weight), tile_size, weight.device)
    for tile, (rows, columns) in zip(tiles, owned, strict=True):
        cos = features @ weight[tile].T
        positive = positives(cos[rows, columns], bias, hp)
        negative = negatives(cos, bias, hp, skip=(rows, columns))
        sums[0] += positive.loss + negative.loss
        sums[1] += positive.grad_bias + negative.grad_bias
        if grad_features is not None and grad_weight is not None:
            grad_cos = negative.grad_cos
            grad_cos[rows, columns] = positive.grad_cos
            grad_features.addmm_(grad_cos, weight[tile])
            torch.mm(grad_cos.T, scaled_features, out=grad_weight[tile])
    if grad_features is not None:
        grad_features.mul_(scale)
    return ShardLoss(sums * scale, grad_features, grad_weight)


def _positives_of_tiles(
    labels: Tensor, shard: int, tile_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every tile the rows and the columns within the tile that hold a positive.

    Sorted once on the CPU, so that no tile waits for the device to count its positives.
    """
    rows = ((labels >= 0) & (labels < shard)).nonzero().squeeze(1)
    rows = rows[labels[rows].argsort(stable=True)]
    classes = labels[rows]
    starts = torch.arange(0, shard + tile_size, tile_size)
    bounds = torch.searchsorted(classes, starts).tolist()
    rows, columns = rows.to(device), (classes % tile_size).to(device)
    for first, last in pairwise(bounds):
        yield rows[first:last], columns[first:last]
