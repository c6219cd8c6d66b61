"""The SphereFace2 head with its identities cut over the ranks.

What crosses between ranks is the features and labels (gathered), the features' gradients (reduced
and scattered) and two scalars (summed). Nothing grows with the number of identities.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sf2cli.errors import Sf2Error
from sf2cli.heads.initial import initialize_rows_
from sf2cli.heads.partition import Partition
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias
from sf2cli.heads.tiles import normalize_rows_, shard_loss

TILE_SIZE = 1024


class ShardedHead(nn.Module):
    """K binary classifiers of which this rank owns one contiguous range.

    `weight` [shard, d] holds this rank's rows, `bias` is a scalar that every rank holds alike.
    Their gradients after `backward` are those of the whole loss: step them on each rank as they
    are, with no averaging. The gradient computed by a forward serves one backward.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        hp: the loss.
        group: the ranks to cut over; default all, or this process alone where torch.distributed
            is not initialised.
        device: of weight and bias.
        dtype: of weight, bias and all arithmetic: float32 or float64.
        seed: of the initial weights, which do not depend on the number of ranks.
        tile_size: classes worked on at a time; the largest temporaries are [global B, tile_size].

    Raises:
        ValueError: a size below 1 or another dtype.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        hp: SphereFace2,
        *,
        group: dist.ProcessGroup | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        tile_size: int = TILE_SIZE,
    ) -> None:
        super().__init__()
        for name, value in (("embedding_size", embedding_size), ("tile_size", tile_size)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        self.hp = hp
        self.ranks = Ranks.of(group)
        self.partition = Partition(num_classes, self.ranks.size)
        self.tile_size = tile_size
        shard = torch.empty(
            self.partition.size(self.ranks.rank), embedding_size, device=device, dtype=dtype
        )
        initialize_rows_(shard, self.start, seed)
        normalize_rows_(shard, tile_size)
        self.weight = nn.Parameter(shard)
        self.bias = nn.Parameter(
            torch.tensor(initial_bias(hp, num_classes), device=device, dtype=dtype)
        )

    @property
    def num_classes(self) -> int:
        """K, over all ranks."""
        return self.partition.num_classes

    @property
    def embedding_size(self) -> int:
        """d."""
        return int(self.weight.shape[1])

    @property
    def start(self) -> int:
        """The first class id of this rank."""
        return self.partition.start(self.ranks.rank)

    @property
    def stop(self) -> int:
        """One past the last class id of this rank."""
        return self.partition.stop(self.ranks.rank)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss over the batch of all ranks; collective. Renormalises the rows of `weight`.

        Args:
            features: [B, d] of this rank, any float type, not normalised; B the same on every rank.
            labels: [B] int64 class ids in [0, K).

        Returns:
            A scalar, the same on every rank: the mean over the global batch of the sum over all K
            classifiers, times `loss_weight`. Its backward gives `features` this rank's part of the
            gradient times the number of ranks, which averaging over data-parallel ranks expects.

        Raises:
            ValueError: shapes or types that do not fit, on any rank; raised on every rank.
            Sf2Error: a label outside [0, K) on any rank; raised on every rank.
        """
        self._check_batch(features, labels)
        with torch.autocast(self.weight.device.type, enabled=False):
            unit = F.normalize(features.to(self.weight))
            return self._loss(unit, labels)

    def _loss(self, unit: Tensor, labels: Tensor) -> Tensor:
        batch = self.ranks.gather(unit.detach())
        ids = self.ranks.gather(labels.to(unit.device)).cpu()
        self._check_ids(ids)
        normalize_rows_(self.weight, self.tile_size)
        shard = shard_loss(
            batch,
            self.weight,
            self.bias,
            ids - self.start,
            self.hp,
            scale=self.hp.loss_weight / len(batch),
            tile_size=self.tile_size,
            gradients=torch.is_grad_enabled(),
        )
        sums = self.ranks.sum_(shard.sums).to(unit.dtype)
        loss, grad_bias = sums[0], sums[1]
        if shard.grad_features is None or shard.grad_weight is None:
            return loss
        grad_unit = self.ranks.sum_and_scatter(shard.grad_features).mul_(self.ranks.size)
        attached: Tensor = _Attach.apply(
            unit, self.weight, self.bias, loss, [grad_unit, shard.grad_weight, grad_bias]
        )
        return attached

    def _check_batch(self, features: Tensor, labels: Tensor) -> None:
        """Agree with the other ranks that all hold batches that can be gathered."""
        d = self.embedding_size
        rows = features.shape[0] if features.ndim else 0
        fits = features.ndim == 2 and features.shape[1] == d and features.is_floating_point()
        ids_fit = labels.dtype == torch.int64 and labels.shape == (rows,)
        here = torch.tensor([[rows, fits, ids_fit]], device=self.weight.device)
        found = self.ranks.gather(here).tolist()
        for rank, (_, features_fit, labels_fit) in enumerate(found):
            if not features_fit:
                raise ValueError(f"features of rank {rank} are not floats of shape [B, {d}]")
            if not labels_fit:
                raise ValueError(f"labels of rank {rank} are not int64 of shape [B]")
        batches = [rows for rows, *_ in found]
        if len(set(batches)) > 1 or not batches[0]:
            raise ValueError(
                f"batch sizes of the ranks are {batches}; expected the same on every rank and not 0"
            )

    def _check_ids(self, ids: Tensor) -> None:
        wrong = ids[(ids < 0) | (ids >= self.num_classes)]
        if len(wrong):
            raise Sf2Error(
                f"label {wrong[0].item()} in the batch; a head of {self.num_classes} identities"
                f" takes 0 to {self.num_classes - 1}",
                "Give the head as many identities as the training set has, or pack the set again.",
            )


class _Attach(torch.autograd.Function):
    """A loss whose gradients are known already: backward only multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, weight: Tensor, bias: Tensor, loss: Tensor, grads: list[Tensor]
    ) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in place and let go: a copy of the weight's gradient is as large as the shard.
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            raise RuntimeError("a head's loss can be differentiated once; run forward again")
        grad_unit, grad_weight, grad_bias = (grad.mul_(grad_loss) for grad in grads)
        return grad_unit, grad_weight, grad_bias, None, None
