"""A tile's step of SGD as soon as its gradient is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sf2cli.heads.arguments import SGDStep
from sf2cli.heads.kernels import Kernels
from sf2cli.heads.tiles import Tile


@dataclass(frozen=True)
class InPlace:
    """Consumes a gradient by stepping the tile's rows, or the copies of chosen rows, which are
    then written back.

    Args:
        kernels: do the step.
        weight: [shard, d].
        momentum: [shard, d], or None.
        start: number of the shard's first row, for the rounding's noise.
        step: the settings.
    """

    kernels: Kernels
    weight: Tensor
    momentum: Tensor | None
    start: int
    step: SGDStep

    @torch.no_grad()
    def __call__(self, tile: Tile, grad: Tensor) -> None:
        buffer = None if self.momentum is None else self.momentum[tile.where]
        self.kernels.update(tile.rows, buffer, grad, self.start + tile.first, self.step)
        if not isinstance(tile.where, slice):
            self.weight[tile.where] = tile.rows
            if self.momentum is not None and buffer is not None:
                self.momentum[tile.where] = buffer
