"""Partial FC as published: the softmax head that face-recognition users run today.

An et al., "Killing Two Birds with One Stone" (CVPR 2022), unsampled: every rank owns a range of
the classes, torch's autograd goes through the normalisation, the product, the clamp and the margin,
and a softmax function of its own agrees with the other ranks on maximum and sum. `sharded_softmax`
computes the same with a fraction of the passes over memory; this form is here to be measured.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from sf2cli.heads.batch import require_batch, require_labels
from sf2cli.heads.class_shard import ClassShard
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.softmax import MarginSoftmax


class PublishedSoftmaxHead(ClassShard):
    """CosFace over K classes of which this rank owns one contiguous range, float32.

    The contract of `ShardedSoftmaxHead.forward`; step `weight` with torch.optim.SGD.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        hp: the loss; its kind is cosface.
        group: the ranks to cut over.

    Raises:
        ValueError: another kind of loss.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        hp: MarginSoftmax,
        *,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_classes, embedding_size, group)
        if hp.kind != "cosface":
            raise ValueError(f"kind is {hp.kind}; expected cosface")
        self.hp = hp
        self.weight = nn.Parameter(torch.empty(self.rows, embedding_size).normal_(0, 0.01))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """See `ShardedSoftmaxHead.forward`."""
        device = self.weight.device
        require_batch(self.ranks, features, labels, self.embedding_size, device)
        ids = require_labels(self.ranks.gather(labels.to(device)), self.num_classes)
        here = (ids >= self.start) & (ids < self.stop)
        rows = here.nonzero().squeeze(1)
        columns = ids[rows] - self.start
        everyone = _Gather.apply(F.normalize(features), self.ranks)
        logits = F.linear(everyone, F.normalize(self.weight)).clamp(-1, 1)
        target = logits[rows, columns] - self.hp.margin
        logits[rows, columns] = target
        loss: Tensor = _SoftmaxLoss.apply(logits * self.hp.scale, rows, columns, self.ranks)
        return loss


class _Gather(torch.autograd.Function):
    """Features of all ranks; backward sums over ranks what each holds for a rank's features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(features)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        return ranks.sum_and_scatter(grad.contiguous()) * ranks.size, None


class _SoftmaxLoss(torch.autograd.Function):
    """The mean cross-entropy over classes that are cut over the ranks; logits [B, shard]."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, columns: Tensor, ranks: Ranks) -> Tensor:
        highest = ranks.max_(logits.max(1, keepdim=True).values)
        logits.sub_(highest).exp_()
        logits.div_(ranks.sum_(logits.sum(1, keepdim=True)))
        own = logits.new_zeros(len(logits))
        own[rows] = logits[rows, columns]
        ctx.save_for_backward(logits, rows, columns)
        return ranks.sum_(own).clamp_min(1e-30).log().mean().neg()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        logits, rows, columns = ctx.saved_tensors
        logits[rows, columns] -= 1
        logits.div_(len(logits))
        return logits * grad, None, None, None
