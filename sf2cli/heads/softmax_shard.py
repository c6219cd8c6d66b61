"""One rank's share of a softmax over the classes of all ranks: two passes and a normaliser between.

The logits of the whole batch and shard are held from one pass to the next, in place: logits, then
exponentials, then gradients. A class's norm and a feature's normaliser are factors of a column and
of a row, so neither needs a pass or a copy of its own: the norm scales the logits, and the
normaliser the [B, d] features and their gradients.

With S sub-centres a class, the logits of all of them are taken first; those of the nearest are the
classes', and the gradients go back to where they came from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sf2cli.heads.ranks import Ranks
from sf2cli.heads.softmax import MarginSoftmax, margin_cos, margin_slope

_ROWS = 1024
_MIN_NORM = 1e-12


class Scratch:
    """The large temporaries of a head, kept for its next step.

    On the CPU an allocation of this size is mapped anew each time, and its page faults cost more
    than the arithmetic on it. Devices have allocators that keep memory by themselves.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of `like`'s type, the taker's own until it is given back."""
        kept = self._kept.pop(name, None)
        return kept if kept is not None and kept.shape == shape else like.new_empty(shape)

    def give(self, name: str, tensor: Tensor) -> None:
        """Keep `tensor` for the next `take` of `name`."""
        if tensor.device.type == "cpu":
            self._kept[name] = tensor


class SoftmaxShard:
    """A step of one shard: made by its first pass, `gradients` is its second. Both are collective.

    Args:
        batch: [B, d] of unit length, every rank's features, float32 or float64.
        weight: [shard, S d] of the same type, not normalised, shard >= 0: this rank's classes.
        index: [n] int64, sorted, the rows of `weight` that take part; None for all of them, n being
            shard then.
        positives: [p] rows of the batch whose class takes part here, and [p] which of the n it is;
            int64.
        hp: the loss.
        ranks: those that hold the other classes.
        scratch: where the memory comes from.
        quality: [p] of the positives' samples, for adaface.

    Attributes:
        loss: scalar, the same on every rank.
        index: as given.
    """

    loss: Tensor

    @torch.no_grad()
    def __init__(
        self,
        batch: Tensor,
        weight: Tensor,
        index: Tensor | None,
        positives: tuple[Tensor, Tensor],
        hp: MarginSoftmax,
        ranks: Ranks,
        scratch: Scratch,
        quality: Tensor | None = None,
    ) -> None:
        self.index = index
        if index is not None:
            held = scratch.take("rows", weight, len(index), weight.shape[1])
            weight = torch.index_select(weight, 0, index, out=held)
        self._rows = weight
        # A centre a row.
        weight = weight.view(-1, batch.shape[1])
        self._batch = batch
        self._weight = weight
        self._positives = positives
        self._ranks = ranks
        self._scratch = scratch
        self._inverse_norm = torch.linalg.vector_norm(weight, dim=1).clamp_(min=_MIN_NORM)
        self._inverse_norm.reciprocal_()
        self._slope_of_logits = self._inverse_norm * hp.scale

        logits = torch.mm(
            batch, weight.T, out=scratch.take("logits", batch, len(batch), len(weight))
        )
        logits.mul_(self._slope_of_logits)
        self._logits = logits
        self._nearest = None
        if hp.sub_centres > 1:
            of_classes = logits.view(len(batch), len(weight) // hp.sub_centres, hp.sub_centres)
            logits, self._nearest = of_classes.max(2)
        cos = logits[positives] / hp.scale
        if hp.interclass_filter < 1:
            # e^-inf = 0 leaves them out of the sum and, times any slope, out of the gradient.
            logits.masked_fill_(logits > hp.interclass_filter * hp.scale, -math.inf)
        own = margin_cos(cos, hp, quality).mul_(hp.scale)
        self._slope_of_margin = margin_slope(cos, hp, quality)
        logits[positives] = own

        top = logits.amax(1) if len(weight) else batch.new_full((len(batch),), -math.inf)
        self._exp = logits.sub_(ranks.max_(top)[:, None]).exp_()
        sums = batch.new_zeros(2, len(batch))
        sums[0] = self._exp.sum(1)
        sums[1, positives[0]] = own - top[positives[0]]
        self._normaliser, own_of_all = ranks.sum_(sums)
        self._loss_weight = hp.loss_weight
        self._sub_centres = hp.sub_centres
        self.loss = hp.loss_weight * (self._normaliser.log() - own_of_all).mean()

    @torch.no_grad()
    def gradients(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        """`factor` (a scalar) times the loss's derivatives; once.

        Returns:
            By this rank's normalised features, times the number of ranks; and by the rows [n, S d]
            that take part.
        """
        rows, _ = self._positives
        # Softmax minus one-hot, but for a factor a row that is put on the features instead.
        own = (self._exp[self._positives] - self._normaliser[rows]).mul_(self._slope_of_margin)
        self._exp[self._positives] = own
        grad_logits = self._exp
        if self._nearest is not None:
            to_centres = self._logits.zero_().view(*self._nearest.shape, self._sub_centres)
            to_centres.scatter_(2, self._nearest[..., None], grad_logits[..., None])
            grad_logits = self._logits
        grad_logits.mul_(self._slope_of_logits)
        factor = factor * self._loss_weight
        of_rows = (factor / (self._normaliser * len(self._batch)))[:, None]

        grad_batch = torch.mm(grad_logits, self._weight).mul_(of_rows)
        grad_unit = self._ranks.sum_and_scatter(grad_batch).mul_(self._ranks.size)
        grad_rows = self._scratch.take("gradient", self._rows, *self._rows.shape)
        grad_weight = grad_rows.view_as(self._weight)
        torch.mm(grad_logits.T, self._batch * of_rows, out=grad_weight)
        _remove_radial_(grad_weight, self._weight, self._inverse_norm)
        self.release()
        return grad_unit, grad_rows

    def release(self) -> None:
        """Give the memory of logits and rows back."""
        if self.index is not None:
            self._scratch.give("rows", self._rows)
        self._scratch.give("logits", self._logits)


def _remove_radial_(grad: Tensor, weight: Tensor, inverse_norm: Tensor) -> None:
    """Subtract from every row of `grad` [n, d] its part along the row of `weight`, in place.

    A block of rows at a time: the product of the two is as large as either.
    """
    blocks = zip(grad.split(_ROWS), weight.split(_ROWS), inverse_norm.split(_ROWS), strict=True)
    for part, rows, inverse in blocks:
        along = (part * rows).sum(1).mul_(inverse).mul_(inverse)
        part.addcmul_(rows, along[:, None], value=-1)
