"""Momentum SGD for a head: in the same pass as the loss, or after it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sf2cli.heads.arguments import SGDStep
from sf2cli.heads.attach import attach
from sf2cli.heads.in_place import InPlace
from sf2cli.heads.initial import derived_seed
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.tiles import whole_tiles

BiasRule = Literal["balanced", "learned"]

# Half of the way to balance in a step: the other half forgives a batch that is off.
_BALANCE_RATE = 0.5
_MAX_LOG_RATIO = 3.0


def require_sgd(lr: float, momentum: float, weight_decay: float) -> None:
    """Check the settings of momentum SGD.

    Raises:
        ValueError: a setting outside its range.
    """
    if not (math.isfinite(lr) and lr >= 0):
        raise ValueError(f"lr is {lr}; expected a number >= 0")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; expected a number in [0, 1)")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay is {weight_decay}; expected a number >= 0")


class HeadSGD:
    """torch.optim.SGD on `weight` and `bias` of a head, without temporaries of the weight's size.

    As in the official code, weight decay is added to the raw gradient of W and b alike, and
    momentum acts on rows before they are renormalised; they are renormalised in the same step.

    With the bias "balanced" no SGD is done on b: each step carries it towards the root of
    dL/db = 0, where the positives' pull P equals the negatives' push N, by b += ln(P / N) / 2 with
    the logarithm held within 3. The sums are those of the step's own pass, so that b follows a
    scale that changes (see `curriculum`), which SGD on b does not. "learned" is as published.

    Attributes:
        lr: the learning rate of the next step; set it freely.
        steps: how many steps were taken; with the head's seed it decides rounding and sampling.
        weight_momentum: [shard, d], of the weight's type; None where momentum is 0.
        bias_momentum: scalar.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        head: ShardedHead,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        bias: BiasRule = "learned",
    ) -> None:
        require_sgd(lr, momentum, weight_decay)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.bias_rule = bias
        self.steps = 0
        self._head = head
        # Starting from zero is torch's first step, where the buffer is the gradient.
        self.weight_momentum = (
            torch.zeros_like(head.weight, requires_grad=False) if momentum else None
        )
        self.bias_momentum = torch.zeros_like(head.bias, requires_grad=False)

    def one_pass(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss, gradients and this step, a tile at a time; collective.

        Equal to `head(features, labels).backward()`, `step()` and `zero_grad()`, in one pass over
        the weight and with no gradient of its size. Weight and bias are stepped when this returns;
        the loss's backward, with gradient 1, hands the features theirs.

        Args and errors: as for `ShardedHead.forward`.
        """
        head = self._head
        draw = derived_seed(head.seed, self.steps, head.ranks.rank)
        done = head.run(features, labels, self._in_place(), draw)
        self._step_bias(done.grad_bias, done.forces)
        self.steps += 1
        return attach(done.loss, (done.unit, done.grad_unit))

    @torch.no_grad()
    def step(self) -> None:
        """Update weight and bias from the gradients that `backward` left; none, no step."""
        head = self._head
        if head.weight.grad is None or head.bias.grad is None:
            return
        step_tile = self._in_place()
        for tile in whole_tiles(head.weight, head.tile_size(batch=1)):
            step_tile(tile, head.weight.grad[tile.where])
        self._step_bias(head.bias.grad, head.forces)
        self.steps += 1

    def zero_grad(self) -> None:
        """Drop the gradients of weight and bias, and their memory."""
        self._head.zero_grad(set_to_none=True)
        self._head.forces.zero_()

    def _in_place(self) -> InPlace:
        head = self._head
        seed = derived_seed(head.seed, self.steps) & 0xFFFFFFFF
        step = SGDStep(self.lr, self.momentum, self.weight_decay, seed)
        weight = head.weight.detach()
        return InPlace(head.kernels, weight, self.weight_momentum, head.start, step)

    @torch.no_grad()
    def _step_bias(self, grad: Tensor, forces: Tensor) -> None:
        bias, buffer = self._head.bias, self.bias_momentum
        if self.bias_rule == "balanced":
            pull, push = forces.log()
            # Without a negative, or so far out that a side underflows, there is no balance to find.
            off = (pull - push).nan_to_num(0.0, 0.0, 0.0).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
            bias.add_(off.to(bias.dtype), alpha=_BALANCE_RATE)
            return
        buffer.mul_(self.momentum).add_(grad).add_(bias, alpha=self.weight_decay)
        bias.sub_(buffer, alpha=self.lr)
