"""Momentum SGD for a head's shard, a tile of rows at a time."""

from __future__ import annotations

import torch

from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.tiles import row_tiles


class HeadSGD:
    """torch.optim.SGD's update without a temporary of the shard's size.

    As in the official code, weight decay is added to the raw gradient and applies to weights and
    bias alike. `lr` may be set between steps. Momentum is [shard, d] and a scalar, of the
    weights' type.
    """

    def __init__(
        self,
        head: ShardedHead,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        self.head = head
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.weight_momentum = torch.zeros_like(head.weight, requires_grad=False)
        self.bias_momentum = torch.zeros_like(head.bias, requires_grad=False)

    @torch.no_grad()
    def step(self) -> None:
        """One update from the accumulated gradients, which it uses as scratch space."""
        weight, bias = self.head.weight, self.head.bias
        if weight.grad is None or bias.grad is None:
            return
        for tile in row_tiles(len(weight), self.head.tile_size):
            self._update(weight[tile], weight.grad[tile], self.weight_momentum[tile])
        self._update(bias, bias.grad, self.bias_momentum)

    def _update(self, value: torch.Tensor, grad: torch.Tensor, buffer: torch.Tensor) -> None:
        buffer.mul_(self.momentum).add_(grad.add_(value, alpha=self.weight_decay))
        value.add_(buffer, alpha=-self.lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.head.weight.grad = None
        self.head.bias.grad = None
