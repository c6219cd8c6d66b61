"""The SphereFace2 head with its identities cut over the ranks.

Two collectives a step: the features and labels are gathered, and the features' gradients summed and
scattered, and with them seven scalars: the loss, the positives' pull, the negatives' push, and the
four of `similarity`. With a filter also each sample's own logit is summed. Nothing grows with the
number of identities.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sf2cli.errors import Sf2Error
from sf2cli.heads.attach import attach
from sf2cli.heads.batch import BatchGathering
from sf2cli.heads.class_shard import ClassShard
from sf2cli.heads.fused import FusedStep
from sf2cli.heads.fused_pass import fused_pass
from sf2cli.heads.in_place import InPlace
from sf2cli.heads.initial import initialize_rows_
from sf2cli.heads.kernels import choose_kernels
from sf2cli.heads.precision import fast_products
from sf2cli.heads.sampling import sampled_tiles
from sf2cli.heads.similarity import SimilaritySums
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias
from sf2cli.heads.tile_size import tile_size_for
from sf2cli.heads.tiles import (
    Batch,
    Consume,
    ShardLoss,
    Tile,
    own_logits,
    phase,
    shard_pass,
    whole_tiles,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


class Pass(NamedTuple):
    """One pass over all shards: the unit features of this rank [B, d], attached to the features;
    the loss; its gradients by the unit features (times the number of ranks) and the bias; and what
    the latter is the difference of: the positives' pull and the negatives' push [2]."""

    unit: Tensor
    loss: Tensor
    grad_unit: Tensor
    grad_bias: Tensor
    forces: Tensor


class ShardedHead(ClassShard):
    """K binary classifiers of which this rank owns one contiguous range.

    `weight` [shard, d] holds this rank's rows, always of unit length; `bias` is a scalar that
    every rank holds alike. A training step is either `HeadSGD.one_pass`, or `forward`, `backward`
    and `HeadSGD.step`, which keeps a gradient of the weight's size and so can accumulate or clip.
    Gradients are those of the whole loss: step them on each rank as they are, with no averaging.
    `similarities` sums up what the passes saw.

    Attributes:
        reject_below: samples to which the classifier of their own label gives a smaller probability
            are left out of the loss, as mislabelled, which `similarities` counts; 0, the default,
            leaves none out.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        hp: the loss.
        group: the ranks to cut over; default all, or this process alone where torch.distributed
            is not initialised.
        device: of weight and bias.
        dtype: of weight and momentum. float32; bfloat16, which halves both and is rounded
            stochastically; or float64, for tests.
        products: type of the matrix products, or "fastest" for float32 or bfloat16 by a short
            measurement; default `dtype`, and for bfloat16 the fastest. All else is computed in
            float32 (float64 for float64).
        negatives: share of the negatives to train on in each step, in (0, 1]; see sampling.py.
        seed: of the initial weights, which do not depend on the number of ranks, and of sampling
            and rounding.
        tile_size: classes worked on at a time; default what fits the caches. With a number the
            one-pass step is never `fused`.

    Raises:
        ValueError: a value out of range.
    """

    bias: nn.Parameter

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        hp: SphereFace2,
        *,
        group: dist.ProcessGroup | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        products: torch.dtype | Literal["fastest"] | None = None,
        negatives: float = 1.0,
        seed: int = 0,
        tile_size: int | None = None,
    ) -> None:
        super().__init__(num_classes, embedding_size, group)
        if tile_size is not None and tile_size < 1:
            raise ValueError(f"tile_size is {tile_size}; expected 1 or more")
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype}; expected float32, bfloat16 or float64")
        if products not in (None, "fastest", torch.float32, torch.bfloat16, dtype):
            raise ValueError(f"products is {products}; expected float32, bfloat16 or fastest")
        if not 0 < negatives <= 1:
            raise ValueError(f"negatives is {negatives}; expected a share in (0, 1]")
        self._gather = BatchGathering(self.ranks, num_classes, embedding_size)
        self.hp = hp
        self.negatives = negatives
        self.seed = seed
        self._tile_size = tile_size
        self.reject_below = 0.0
        device = torch.device(device)
        if products == "fastest" or (products is None and dtype == torch.bfloat16):
            chosen = self.ranks.agree(fast_products(device))
        else:
            chosen = products or dtype
        self.products: torch.dtype = chosen
        self.similarities = SimilaritySums()
        self.kernels = choose_kernels(device, dtype, self.products, embedding_size, hp)
        shard = torch.empty(self.rows, embedding_size, device=device, dtype=dtype)
        initialize_rows_(shard, self.start, seed)
        self.weight = nn.Parameter(shard)
        exact = torch.promote_types(dtype, torch.float32)
        self.bias = nn.Parameter(
            torch.tensor(initial_bias(hp, num_classes), device=device, dtype=exact)
        )
        # Of the losses since the last step that kept a gradient.
        self.forces = torch.zeros(2, dtype=torch.float64, device=device)

    def fused(self, batch: int) -> FusedStep | None:
        """What `HeadSGD.one_pass` steps the shard with, a batch of that size over all ranks; None
        where it goes tile by tile."""
        step = self.kernels.fused if self.negatives == 1 and self._tile_size is None else None
        return step if step and step.fits(batch, self.embedding_size) else None

    def tile_size(self, batch: int) -> int:
        """Classes worked on at a time with a batch of that size over all ranks."""
        if self._tile_size is not None:
            return self._tile_size
        row_bytes = (2 * self.weight.element_size() + self.products.itemsize) * self.embedding_size
        return tile_size_for(row_bytes, 2 * batch * self.products.itemsize, self.weight.is_cpu)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss over the batch of all ranks; collective.

        Args:
            features: [B, d] of this rank, any float type, not normalised; B the same on every rank.
            labels: [B] int64 class ids in [0, K).

        Returns:
            A scalar, the same on every rank: the mean over the global batch of the sum over all K
            classifiers, times `loss_weight`. Its backward gives `features` this rank's part of the
            gradient times the number of ranks, which averaging over data-parallel ranks expects,
            and `weight` and `bias` theirs. It serves one backward.

        Raises:
            ValueError: shapes or types that do not fit, on any rank; raised on every rank.
            Sf2Error: a label outside [0, K) on any rank, raised on every rank; or sampled
                negatives, which only `HeadSGD.one_pass` trains on.
        """
        if not torch.is_grad_enabled():
            return self.run(features, labels, lambda tile, grad: None).loss
        if self.negatives < 1:
            raise Sf2Error(
                f"negatives {self.negatives} with gradient accumulation: rows that are not drawn"
                " would have to be told from rows with no gradient",
                "Train on all negatives, or with gradient_accumulation_steps 1.",
            )
        grad_weight = torch.empty_like(self.weight, requires_grad=False)

        def keep(tile: Tile, grad: Tensor) -> None:
            grad_weight[tile.where] = grad

        done = self.run(features, labels, keep)
        self.forces += done.forces
        return attach(
            done.loss,
            (done.unit, done.grad_unit),
            (self.weight, grad_weight),
            (self.bias, done.grad_bias),
        )

    def run(self, features: Tensor, labels: Tensor, consume: Consume, draw: int = 0) -> Pass:
        """The pass behind `forward` and `HeadSGD.one_pass`; arguments and errors of `forward`.

        Args:
            consume: is given every tile with the gradient by its rows, and may step it.
            draw: the seed of this step's sampling.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            with phase("communication"):
                unit, everyone, ids = self._gather(features, labels, self.bias)
            batch = Batch(everyone, ids - self.start, self.hp.loss_weight / len(everyone))
            kept = self._kept(batch) if self.reject_below else None
            shard = self._pass(batch if kept is None else batch.part(kept), consume, draw)
            grad_features = shard.grad_features
            if kept is not None:
                grad_features = torch.zeros_like(everyone).index_copy_(0, kept, grad_features)
        sums = shard.sums
        with phase("communication"):
            grad_unit = self.ranks.sum_and_scatter(grad_features, sums)
        samples = len(everyone) if kept is None else len(kept)
        self.similarities.add(sums[3:], samples, self.num_classes, len(everyone) - samples)
        loss, pull, push = sums[:3]
        exact = unit.dtype
        return Pass(
            unit,
            loss.to(exact),
            grad_unit.mul_(self.ranks.size),
            (push - pull).to(exact),
            torch.stack((pull, push)),
        )

    def _pass(self, batch: Batch, consume: Consume, draw: int) -> ShardLoss:
        found = (batch, self.weight.detach(), self.bias.detach(), self.hp)
        samples = len(batch.unit)
        if isinstance(consume, InPlace) and (fused := self.fused(samples)):
            return fused_pass(*found, fused, consume)
        tiles = self._tiles(samples, batch.labels, draw)
        return shard_pass(*found, tiles, consume, kernels=self.kernels, products=self.products)

    @torch.no_grad()
    def _kept(self, batch: Batch) -> Tensor:
        """Which samples [n] of the batch stay, the same on every rank."""
        logits = own_logits(batch, self.weight, self.bias, self.hp)
        with phase("communication"):
            self.ranks.sum_(logits)
        # A feature that is not finite stays: the loss has to show it.
        return (~(torch.sigmoid(logits) < self.reject_below)).nonzero().squeeze(1)

    def _tiles(self, batch: int, labels: Tensor, draw: int) -> Iterator[Tile]:
        weight, tile_size = self.weight.detach(), self.tile_size(batch)
        if self.negatives == 1 or not torch.is_grad_enabled():
            return whole_tiles(weight, tile_size)
        return sampled_tiles(weight, labels.cpu(), self.negatives, tile_size, draw)
