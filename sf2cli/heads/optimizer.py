"""Momentum SGD for a head, a tile of rows at a time."""

from __future__ import annotations

import math

import torch

from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.tiles import row_tiles


class HeadSGD:
    """torch.optim.SGD on `weight` and `bias` of a head, without temporaries of the weight's size.

    As in the official code, weight decay is added to the raw gradient of W and b alike, and
    momentum acts on rows before they are renormalised.

    Attributes:
        lr: the learning rate of the next step; set it freely.
        weight_momentum: [shard, d], of the weight's type.
        bias_momentum: scalar.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self, head: ShardedHead, lr: float, momentum: float = 0.9, weight_decay: float = 5e-4
    ) -> None:
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"lr is {lr}; expected a number >= 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected a number in [0, 1)")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay is {weight_decay}; expected a number >= 0")
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._head = head
        # Starting from zero is torch's first step, where the buffer is the gradient.
        self.weight_momentum = torch.zeros_like(head.weight, requires_grad=False)
        self.bias_momentum = torch.zeros_like(head.bias, requires_grad=False)

    @torch.no_grad()
    def step(self) -> None:
        """Update weight and bias from their gradients; a missing gradient leaves its own alone."""
        weight, bias = self._head.weight, self._head.bias
        if weight.grad is not None:
            for tile in row_tiles(len(weight), self._head.tile_size):
                self._update(weight[tile], weight.grad[tile], self.weight_momentum[tile])
        if bias.grad is not None:
            self._update(bias, bias.grad, self.bias_momentum)

    def zero_grad(self) -> None:
        """Drop the gradients of weight and bias, and their memory."""
        self._head.zero_grad(set_to_none=True)

    def _update(self, value: torch.Tensor, grad: torch.Tensor, buffer: torch.Tensor) -> None:
        buffer.mul_(self.momentum).add_(grad).add_(value, alpha=self.weight_decay)
        value.add_(buffer, alpha=-self.lr)
