"""Momentum SGD for a softmax head, on all rows or on the sampled ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from sf2cli.heads.attach import attach
from sf2cli.heads.optimizer import require_sgd
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead

_ROWS = 1024


class SoftmaxSGD:
    """torch.optim.SGD on the weight of a softmax head.

    Of a sampled head only the rows drawn are updated, weight and momentum alike; the others keep
    both, without decay.

    Attributes:
        lr: the learning rate of the next step; set it freely.
        steps: how many steps were taken.
        weight_momentum: [shard, d], of the weight's type; None where momentum is 0.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        head: ShardedSoftmaxHead,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        require_sgd(lr, momentum, weight_decay)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.steps = 0
        self._head = head
        # Starting from zero is torch's first step, where the buffer is the gradient.
        self.weight_momentum = torch.zeros_like(head.weight.detach()) if momentum else None

    def one_pass(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss, gradients and this step; collective. As `HeadSGD.one_pass`, but in two passes."""
        leaf = features.detach().requires_grad_()
        loss: Tensor = self._head(leaf, labels)
        loss.backward()
        self.step()
        self.zero_grad()
        assert leaf.grad is not None
        return attach(loss.detach(), (features, leaf.grad))

    @torch.no_grad()
    def step(self) -> None:
        """Update the weight from its gradient; without one, leave it alone."""
        weight, grad = self._head.weight.detach(), self._head.weight.grad
        if grad is None:
            return
        self.steps += 1
        self._head.draw = self.steps
        if not grad.is_sparse:
            self._update(weight, grad, self.weight_momentum)
            return
        for index, values in _row_blocks(grad):
            rows = weight.index_select(0, index)
            if self.weight_momentum is None:
                self._update(rows, values, None)
            else:
                momentum = self.weight_momentum.index_select(0, index)
                self._update(rows, values, momentum)
                self.weight_momentum[index] = momentum
            weight[index] = rows

    def zero_grad(self) -> None:
        """Let go of the weight's gradient."""
        self._head.zero_grad()

    def _update(self, weight: Tensor, grad: Tensor, momentum: Tensor | None) -> None:
        # The fused kernel: the default makes a temporary of the weight's size for the decay.
        sgd(
            [weight],
            [grad],
            [momentum],
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0,
            nesterov=False,
            maximize=False,
        )


def _row_blocks(grad: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The rows of a sparse gradient, _ROWS at a time: ids [n] and values [n, d]."""
    # Only the sum of several backwards has rows twice; autograd forgets that one's has not.
    if (grad._indices()[0].diff() <= 0).any():
        grad = grad.coalesce()
    return list(zip(grad._indices()[0].split(_ROWS), grad._values().split(_ROWS), strict=True))
