"""One rank's share of the SphereFace2 loss, a tile of identities at a time.

The classifiers do not compete, so the gradient of a logit is known as soon as the logit is: a
tile's forward and backward are done together and its [B, tile] matrix is dropped before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.heads.sphereface2 import SphereFace2, negatives, positives


class ShardGradients(NamedTuple):
    """Derivatives of one shard's loss, times the scale asked for.

    `features` [B, d] is with respect to the normalised features, `weight` is [shard, d].
    """

    features: Tensor
    weight: Tensor


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
) -> tuple[Tensor, ShardGradients | None]:
    """The loss of one shard's classifiers on the whole batch, and its derivatives.

    Args:
        features: [B, d] of unit length, float32 or float64.
        weight: [shard, d] of unit length, same type.
        bias: scalar, same type.
        labels: [B] int64 relative to the shard's first class; outside [0, shard) means that
            another shard holds the positive.
        scale: factor on everything returned: loss weight over batch size.
        tile_size: classes at a time; the largest temporaries are [B, tile_size].
        gradients: whether to compute the second value.

    Returns:
        [2] float64, the loss and dL/db; and the other derivatives, or None.
    """
    # Summed in float64: at millions of classes the small addends of late tiles would be lost.
    sums = torch.zeros(2, dtype=torch.float64, device=weight.device)
    grads = None
    if gradients:
        grads = ShardGradients(torch.zeros_like(features), torch.empty_like(weight))
    for tile in row_tiles(len(weight), tile_size):
        rows = ((labels >= tile.start) & (labels < tile.stop)).nonzero().squeeze(1)
        columns = labels[rows] - tile.start
        cos = features @ weight[tile].T
        own = positives(cos[rows, columns], bias, hp)
        other = negatives(cos, bias, hp, skip=(rows, columns))
        sums[0] += own[0] + other[0]
        sums[1] += own[2] + other[2]
        if grads is not None:
            grad_cos = other[1].mul_(scale)
            grad_cos[rows, columns] = own[1] * scale
            grads.features.addmm_(grad_cos, weight[tile])
            torch.mm(grad_cos.T, features, out=grads.weight[tile])
    return sums * scale, grads
