"""The margin softmax heads with their identities cut over the ranks: SphereFace2's opponents.

The classes of a softmax compete, so that every rank holds the exponentials of all its logits until
the ranks have agreed on the normaliser, and then passes over them again for the gradients. This is
the scheme of Partial FC (An et al., ICCVW 2021 and CVPR 2022), sampled or not, with the gradients
in closed form.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sf2cli.heads.batch import BatchGathering
from sf2cli.heads.class_shard import ClassShard
from sf2cli.heads.initial import derived_seed, initialize_rows_
from sf2cli.heads.softmax import MarginSoftmax, quality
from sf2cli.heads.softmax_shard import Scratch, SoftmaxShard

# Of the initial weights, as published: gradient and decay act on the raw rows, so their length sets
# how fast they turn.
INITIAL_STD = 0.01

# AdaFace's statistics of feature lengths: where they start, and how fast they follow.
_NORM_MEAN, _NORM_STD, _NORM_RATE = 20.0, 100.0, 0.01


class ShardedSoftmaxHead(ClassShard):
    """A margin softmax over K classes of which this rank owns one contiguous range.

    `weight` [shard, S d] holds this rank's raw rows: of each class its S sub-centres side by side,
    which are normalised inside the graph. Its gradient after `backward` is that of the whole loss:
    step it on each rank as it is, with no averaging. A loss can be differentiated once.

    With `sample_rate` below 1 each step sees round(sample_rate * shard) of a rank's classes: all
    those that the batch has, and others drawn at random up to that number (more, if the batch has
    more). The softmax runs over the classes drawn, and `weight.grad` is a sparse tensor of their
    rows.

    Memory beside the weight, in float32, for n classes in use on a rank (the shard, or what is
    sampled of it): logits of 4 n times the global B bytes, once, which turn into exponentials and
    then into their gradients in place; the gradient of 4 n d; sampled, n gathered rows of 4 d;
    blocks of 1,024 rows; vectors of n and of the shard. On the CPU the first three stay allocated
    from step to step. Sub-centres take S times as much, and 12 n times the global B bytes for the
    classes' own logits and the nearest centres.

    Attributes:
        draw: with the seed decides which classes are sampled; `SoftmaxSGD` counts it up.
        norms: [2], mean and standard deviation of the features' lengths, for adaface alone.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        hp: the loss.
        group: the ranks to cut over; default all, or this process alone where torch.distributed
            is not initialised.
        device: of the weight.
        dtype: of the weight and all arithmetic: float32 or float64.
        seed: of the initial weights, which do not depend on the number of ranks, and of sampling,
            which does.
        sample_rate: the part of the classes that takes part in a step, in (0, 1].

    Raises:
        ValueError: a size below 1, another dtype, or a rate outside its range.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        hp: MarginSoftmax,
        *,
        group: dist.ProcessGroup | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        sample_rate: float = 1.0,
    ) -> None:
        super().__init__(num_classes, embedding_size, group)
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is {sample_rate}; expected a number in (0, 1]")
        self.hp = hp
        self.sample_rate = sample_rate
        self._gather = BatchGathering(self.ranks, num_classes, embedding_size)
        width = hp.sub_centres * embedding_size
        shard = torch.empty(self.rows, width, device=device, dtype=dtype)
        initialize_rows_(shard, self.start, seed)
        self.weight = nn.Parameter(shard.mul_(INITIAL_STD * math.sqrt(width)))
        self.register_parameter("bias", None)
        self.products = dtype
        self.seed = seed
        self.draw = 0
        self._scratch = Scratch()
        self.norms = torch.tensor([_NORM_MEAN, _NORM_STD], device=device, dtype=dtype)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss over the batch of all ranks; collective, as is its backward.

        Args:
            features: [B, d] of this rank, any float type, not normalised; B the same on every rank.
            labels: [B] int64 class ids in [0, K).

        Returns:
            A scalar, the same on every rank: the mean over the global batch. Its backward gives
            `features` this rank's part of the gradient times the number of ranks, which averaging
            over data-parallel ranks expects.

        Raises:
            ValueError: shapes or types that do not fit, on any rank; raised on every rank.
            Sf2Error: a label outside [0, K) on any rank; raised on every rank.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            unit, everyone, ids = self._gather(features, labels, self.weight)
            norms = None
            if self.hp.kind == "adaface":
                norms = self.ranks.gather(features.detach().to(self.weight).norm(dim=1))
            step = self._step(everyone, ids, norms)
            if torch.is_grad_enabled():
                loss: Tensor = _Differentiable.apply(unit, self.weight, step)
                return loss
            step.release()
            return step.loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the weight's gradient. Its memory serves the next one: keep no reference."""
        grad, self.weight.grad = self.weight.grad, None
        if grad is not None:
            self._scratch.give("gradient", grad._values() if grad.is_sparse else grad)

    @torch.no_grad()
    def _step(self, batch: Tensor, ids: Tensor, norms: Tensor | None) -> SoftmaxShard:
        rows = ((ids >= self.start) & (ids < self.stop)).nonzero().squeeze(1)
        columns = ids[rows] - self.start
        index = None
        if self.sample_rate < 1:
            index = self._sample(columns)
            columns = torch.searchsorted(index, columns)
        own_quality = None if norms is None else self._quality(norms)[rows]
        return SoftmaxShard(
            batch,
            self.weight.detach(),
            index,
            (rows, columns),
            self.hp,
            self.ranks,
            self._scratch,
            own_quality,
        )

    def _quality(self, norms: Tensor) -> Tensor:
        """AdaFace's quality of the samples [B], by statistics that take them in first."""
        norms = norms.clamp(0.001, 100)
        if self.training:
            std = norms.std(correction=min(1, len(norms) - 1))
            self.norms.lerp_(torch.stack((norms.mean(), std)), _NORM_RATE)
        return quality(norms, *self.norms)

    def _sample(self, positives: Tensor) -> Tensor:
        """This step's classes, sorted, relative to the shard: the positives and random others."""
        shard = len(self.weight)
        positives = positives.unique()
        size = max(len(positives), round(self.sample_rate * shard))
        device = self.weight.device
        seed = derived_seed(self.seed, self.ranks.rank, self.draw)
        generator = torch.Generator(device).manual_seed(seed)
        priority = torch.rand(shard, generator=generator, device=device)
        priority[positives] = 2
        return priority.topk(size, sorted=False).indices.sort().values


class _Differentiable(torch.autograd.Function):
    """The loss of a step, whose backward is the step's own second pass."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, weight: Tensor, step: SoftmaxShard) -> Tensor:
        # For its check that nobody has changed the weight before backward.
        ctx.save_for_backward(weight)
        ctx.step = step
        return step.loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        step, ctx.step = ctx.step, None
        if step is None:
            raise RuntimeError("a head's loss can be differentiated once; run forward again")
        with torch.autocast(weight.device.type, enabled=False):
            grad_unit, grad_weight = step.gradients(grad_loss)
        if step.index is not None:
            grad_weight = torch.sparse_coo_tensor(
                step.index[None], grad_weight, weight.shape, check_invariants=False
            )
        return grad_unit, grad_weight, None
