"""One pass over a rank's identities, a tile at a time while the tile is in cache.

The classifiers do not compete, so the gradient of a logit is known as soon as the logit is. A
tile's cosines, loss, feature and weight gradients and its SGD step are done before the next tile
is touched: nothing of size B x K exists, and with `HeadSGD.one_pass` no gradient of W's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from sf2cli.heads.arguments import Targets
from sf2cli.heads.kernels import Kernels
from sf2cli.heads.sphereface2 import SphereFace2, g, positives

# Where loss, force, cosines and how many are above the boundary stand in `ShardLoss.sums`.
_OF_POSITIVES, OF_NEGATIVES = [0, 1, 5, 6], [0, 2, 3, 4]


@dataclass(frozen=True)
class Tile:
    """Some rows of a shard.

    Args:
        where: a slice of the shard, or ascending int64 ids in it.
        first: the number of the tile's first row; the others follow.
        rows: [k, d], a view of the shard or, with ids, a copy.
        row_weight: [k] factors on the rows' negatives; None for 1.
    """

    where: slice | Tensor
    first: int
    rows: Tensor
    row_weight: Tensor | None


Consume = Callable[[Tile, Tensor], None]
"""Takes a tile and the gradient by its rows [k, d], in the type of the products."""


@dataclass(frozen=True)
class Batch:
    """The whole batch as a shard sees it.

    Args:
        unit: [B, d] features of unit length, float32 or float64.
        labels: [B] int64 relative to the shard's first class; outside [0, shard) another shard
            holds the positive.
        scale: factor on every derivative: loss weight over batch size.
    """

    unit: Tensor
    labels: Tensor
    scale: float

    def part(self, kept: Tensor) -> Batch:
        """The samples numbered `kept` [n] alone, on the same scale."""
        return Batch(self.unit[kept], self.labels[kept], self.scale)


class ShardLoss(NamedTuple):
    """The loss of one shard's classifiers: `sums` [7] float64 holds the loss, the positives' pull
    and the negatives' push, whose difference push - pull is dL/db, and what
    `similarity.SimilaritySums` counts; `grad_features` [B, d] is with respect to the unit
    features."""

    sums: Tensor
    grad_features: Tensor


def row_tiles(rows: int, tile_size: int) -> Iterator[slice]:
    """Slices of at most `tile_size` that cover `rows` rows in order."""
    for start in range(0, rows, tile_size):
        yield slice(start, min(start + tile_size, rows))


def whole_tiles(weight: Tensor, tile_size: int) -> Iterator[Tile]:
    """Every row of `weight` [shard, d], once and in order."""
    for where in row_tiles(len(weight), tile_size):
        yield Tile(where, where.start, weight[where], None)


def phase(name: str) -> AbstractContextManager[object]:
    """A label `sf2.NAME` for torch.profiler; nothing where no profiler runs."""
    return record_function(f"sf2.{name}") if torch.autograd._profiler_enabled() else nullcontext()


class _Scratch:
    """A tile's matrices, kept for the next one: fresh pages cost more than filling them."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, rows: int, width: int) -> Tensor:
        if name not in self._kept or len(self._kept[name]) < rows:
            self._kept[name] = torch.empty(rows, width, dtype=self._dtype, device=self._device)
        return self._kept[name][:rows]


@torch.no_grad()
def shard_pass(
    batch: Batch,
    weight: Tensor,
    bias: Tensor,
    hp: SphereFace2,
    tiles: Iterator[Tile],
    consume: Consume,
    *,
    kernels: Kernels,
    products: torch.dtype,
) -> ShardLoss:
    """Loss and derivatives of one shard's classifiers; each tile goes to `consume` when done.

    No temporary is larger than a tile, and no device is waited for inside the loop.

    Args:
        batch: features and labels of all ranks.
        weight: [shard, d], rows of unit length.
        bias: scalar of the features' type.
        hp: the loss.
        tiles: of `weight`; a tile's rows may change once the next tile is asked for.
        consume: uses the weight gradient, and may change the tile's rows in `weight`.
        kernels: the element-wise work.
        products: type of the matrix products. The positives' cosines are in the features' type
            in any case.
    """
    unit, scale = batch.unit, batch.scale
    # Summed in float64: over millions of classes the addends of late tiles would be rounded away.
    sums = torch.zeros(7, dtype=torch.float64, device=weight.device)
    grad_features = torch.zeros_like(unit)
    if not len(weight):
        return ShardLoss(sums, grad_features)
    own_grad = own_gradients(batch, weight, bias, hp, sums)
    labels = batch.labels.to(torch.int32)
    # The batch mean and the loss weight go with the features into the weight gradient.
    inputs, scaled = unit.to(products), (unit * scale).to(products)
    scratch = _Scratch(products, weight.device)
    for tile in tiles:
        with phase("product"):
            rows = tile.rows.to(products)
            cos = scratch("cos", len(rows), len(unit))
            torch.mm(rows, inputs.T, out=cos)
        with phase("elementwise"):
            targets = Targets(_row_numbers(tile, labels), own_grad)
            grad_cos = scratch("grad_cos", len(rows), len(unit))
            found = kernels.negatives(cos, grad_cos, targets, tile.first, tile.row_weight, bias, hp)
            sums[OF_NEGATIVES] += found.sum(1, dtype=torch.float64)
        with phase("product"):
            grad_features += grad_cos.T @ rows
            grad_rows = scratch("grad_rows", *rows.shape)
            torch.mm(grad_cos, scaled, out=grad_rows)
        with phase("update"):
            consume(tile, grad_rows)
    sums[:3] *= scale
    return ShardLoss(sums, grad_features.mul_(scale))


def own_gradients(
    batch: Batch, weight: Tensor, bias: Tensor, hp: SphereFace2, sums: Tensor
) -> Tensor:
    """The positives' derivatives by their cosines [B]; what they add to `sums` is added."""
    cos, here = _own_cosines(batch, weight)
    part = positives(cos, bias, hp)
    above = (hp.r * g(cos, hp.t) + bias > 0).to(cos.dtype)
    found = torch.stack((part.loss, -part.grad_bias, cos, above)).masked_fill(~here, 0)
    sums[_OF_POSITIVES] += found.sum(1, dtype=torch.float64)
    return part.grad_cos


def own_logits(batch: Batch, weight: Tensor, bias: Tensor, hp: SphereFace2) -> Tensor:
    """What each sample's own classifier makes of it, without margin: r g(cos) + b, [B].

    0 where another shard holds the classifier.
    """
    if not len(weight):
        return torch.zeros_like(batch.unit[:, 0])
    cos, here = _own_cosines(batch, weight)
    return (hp.r * g(cos, hp.t) + bias).masked_fill(~here, 0)


def _own_cosines(batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The samples' cosines with their own rows [B], of use only where the rows are here [B]."""
    here = (batch.labels >= 0) & (batch.labels < len(weight))
    own_rows = weight[batch.labels.clamp(0, len(weight) - 1)].to(batch.unit.dtype)
    return (own_rows * batch.unit).sum(1), here


def _row_numbers(tile: Tile, labels: Tensor) -> Tensor:
    """The numbers of the labels' rows, int32: their ids, or places among chosen rows; -1: none."""
    if isinstance(tile.where, slice):
        return labels
    place = torch.searchsorted(tile.where, labels.long()).clamp(max=len(tile.where) - 1)
    return (place + tile.first).masked_fill(tile.where[place] != labels, -1).to(torch.int32)
