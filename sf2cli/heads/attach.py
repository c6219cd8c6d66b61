"""A loss whose gradients are known already, as autograd sees it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def attach(loss: Tensor, *gradients: tuple[Tensor, Tensor]) -> Tensor:
    """`loss`, made to hand each tensor of `gradients` the gradient beside it; for one backward.

    The gradients are scaled in place by the loss's own gradient and let go: a copy of a weight's
    would be as large as the shard.
    """
    tensors, grads = zip(*gradients, strict=True)
    attached: Tensor = _Attach.apply(loss, list(grads), *tensors)
    return attached


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, grads: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            raise RuntimeError("a head's loss can be differentiated once; run forward again")
        return None, None, *(grad.mul_(grad_loss) for grad in grads)
