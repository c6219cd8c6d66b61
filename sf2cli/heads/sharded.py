"""The identity-sharded SphereFace2 head: gather features, do this shard's tiles, scatter gradients.

What crosses ranks is the features, the labels, the feature gradients and two scalars: nothing that
grows with the number of identities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sf2cli.errors import Sf2Error
from sf2cli.heads.partition import Partition
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias
from sf2cli.heads.tiles import normalize_rows_, shard_loss

TILE_SIZE = 2048
# Initial rows are drawn a block of class ids at a time, so that they do not depend on the shards.
_BLOCK = 4096


class ShardedHead(nn.Module):
    """One rank's classifiers of `num_classes` identities; the bias is replicated.

    Every rank of the default process group builds one and calls it together; without a process
    group it is a head on one process.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        hp: the loss's hyper-parameters.
        device, dtype: of the weights; float32 or float64.
        seed: initial rows are a function of it and the class id alone.
        tile_size: classes at a time; the largest temporaries are [global batch, tile_size].
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        hp: SphereFace2,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        tile_size: int = TILE_SIZE,
    ) -> None:
        super().__init__()
        distributed = dist.is_initialized()
        self.rank = dist.get_rank() if distributed else 0
        self.partition = Partition(num_classes, dist.get_world_size() if distributed else 1)
        self.hp = hp
        self.tile_size = tile_size
        self.start = self.partition.start(self.rank)
        self.stop = self.partition.stop(self.rank)
        shard = torch.empty(self.stop - self.start, embedding_size, device=device, dtype=dtype)
        self.weight = nn.Parameter(shard)
        bias = torch.tensor(initial_bias(hp, num_classes), device=device, dtype=dtype)
        self.bias = nn.Parameter(bias)
        self._fill(seed)

    @torch.no_grad()
    def _fill(self, seed: int) -> None:
        size = self.weight.shape[1]
        for block in range(self.start // _BLOCK, -(-self.stop // _BLOCK)):
            drawn = np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(drawn) >> 1)
            rows = F.normalize(torch.randn(_BLOCK, size, generator=generator))
            low, high = max(self.start, block * _BLOCK), min(self.stop, (block + 1) * _BLOCK)
            self.weight[low - self.start : high - self.start] = rows[
                low - block * _BLOCK : high - block * _BLOCK
            ].to(self.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss over the global batch; the same scalar on every rank.

        Args:
            features: [B, d] of this rank, any floating type, not normalised. B is the same on
                every rank.
            labels: [B] int64, global class ids.

        Raises:
            Sf2Error: a label outside [0, K), or batches that differ in size; on every rank.
            TypeError: labels that are not int64.
        """
        if labels.dtype != torch.int64:
            raise TypeError(f"labels are {labels.dtype}; expected torch.int64")
        labels = self._gather_labels(labels)
        normalize_rows_(self.weight, self.tile_size)
        unit = F.normalize(features.to(self.weight.dtype))
        loss: Tensor = _ShardLoss.apply(
            unit, self.weight, self.bias, labels, self, torch.is_grad_enabled()
        )
        return loss

    def _gather_labels(self, labels: Tensor) -> Tensor:
        world = self.partition.world_size
        if world > 1:
            sizes = [torch.zeros(1, dtype=torch.int64, device=labels.device) for _ in range(world)]
            dist.all_gather(sizes, torch.tensor([len(labels)], device=labels.device))
            counts = [int(size) for size in sizes]
            if len(set(counts)) > 1:
                raise Sf2Error(f"batches of {counts} on the ranks; expected one size on all")
            labels = _gather(labels, world)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.partition.num_classes:
            wrong = low if low < 0 else high
            raise Sf2Error(
                f"label {wrong} is outside 0 to {self.partition.num_classes - 1}",
                "Build the head for as many identities as the packed set has.",
            )
        return labels


class _ShardLoss(torch.autograd.Function):
    """Computes every gradient in the forward pass, while a tile's cosines are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        head: ShardedHead,
        gradients: bool,
    ) -> Tensor:
        world = head.partition.world_size
        everyone = _gather(unit, world)
        sums, grads = shard_loss(
            everyone,
            weight,
            bias,
            labels - head.start,
            head.hp,
            scale=head.hp.loss_weight / len(labels),
            tile_size=head.tile_size,
            gradients=gradients,
        )
        if world > 1:
            dist.all_reduce(sums)
        if grads is not None:
            if world > 1:
                # gloo has no reduce-scatter for every type; what is moved is only [B, d].
                dist.all_reduce(grads.features)
            own = grads.features[head.rank * len(unit) :][: len(unit)]
            # Data-parallel averaging divides by the number of ranks what is already global.
            ctx.save_for_backward(own * world, grads.weight, sums[1].to(bias.dtype))
        return sums[0].to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensors
        factor = grad_outputs[0]
        return features * factor, weight.mul_(factor), bias * factor, None, None, None


def _gather(tensor: Tensor, world: int) -> Tensor:
    if world == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
