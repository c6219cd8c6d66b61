"""The pass over a shard and its step in one compiled call, where `tiles.shard_pass` makes many."""

from __future__ import annotations

import torch
from torch import Tensor

from sf2cli.heads.arguments import Targets
from sf2cli.heads.fused import FusedStep
from sf2cli.heads.in_place import InPlace
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.tiles import OF_NEGATIVES, Batch, ShardLoss, own_gradients


@torch.no_grad()
def fused_pass(
    batch: Batch,
    weight: Tensor,
    bias: Tensor,
    hp: SphereFace2,
    fused: FusedStep,
    in_place: InPlace,
) -> ShardLoss:
    """`shard_pass` over every row with `in_place` as its `consume`.

    Arguments as for `shard_pass`.
    """
    sums = torch.zeros(7, dtype=torch.float64)
    if not len(weight):
        return ShardLoss(sums, torch.zeros_like(batch.unit))
    own_grad = own_gradients(batch, weight, bias, hp, sums)
    found = fused(
        weight,
        in_place.momentum,
        batch.unit.to(fused.products),
        (batch.unit * batch.scale).to(fused.products),
        Targets(batch.labels.to(torch.int32), own_grad),
        in_place.start,
        bias,
        hp,
        in_place.step,
    )
    sums[OF_NEGATIVES] += found.sums
    sums[:3] *= batch.scale
    return ShardLoss(sums, (found.grad_features * batch.scale).to(batch.unit.dtype))
