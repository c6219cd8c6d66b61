"""The gradients of backbone and head as one: their global norm, and one factor for both.

DeepSpeed knows the backbone alone. Its optimisers divide gradients by a loss scale as they step
and drop them where their norm is not finite; both are steered here, so that the head, which it
does not know, takes part.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sf2cli.heads.class_shard import ClassShard

_ROWS = 65536


class GradientNorms(NamedTuple):
    """L2 norms over all ranks, of gradients as the optimisers would see them without clipping."""

    backbone: float
    head: float

    @property
    def total(self) -> float:
        return math.hypot(self.backbone, self.head)


class BackboneGradients:
    """What the next step of a DeepSpeed engine would take, once `backward` has run for all of it.

    Args:
        engine: of any ZeRO stage, its weights in float32 and its own clipping off.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._optimizer = engine.optimizer
        self._stage: int = engine.zero_optimization_stage()
        self._known = math.nan
        if self._stage == 3:
            self._measure = self._optimizer._get_norm_groups
            self._optimizer._get_norm_groups = lambda: [torch.tensor(self._known)]
        elif self._stage:
            self._measure = self._optimizer.scaled_global_norm
            self._optimizer.scaled_global_norm = lambda: torch.tensor(self._known)

    def norm(self) -> float:
        """The L2 norm over all ranks, not finite where a gradient is not; collective."""
        if not self._stage:
            parameters = [p for p in self._engine.module.parameters() if p.grad is not None]
            return float(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        found = self._measure()
        values = [float(value) for value in (found if isinstance(found, list) else [found])]
        # DeepSpeed says -1 for the norm of a group that is not finite.
        return math.hypot(*values) if all(value >= 0 for value in values) else math.inf

    def step(self, factor: float) -> None:
        """Step the optimiser on the gradients times `factor`."""
        if self._stage:
            self._known = 0.0
            # It divides by the scale.
            self._optimizer.override_loss_scale(1 / factor)
            self._engine.step()
            self._optimizer.override_loss_scale(1.0)
            return
        if factor != 1:
            grads = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
            torch._foreach_mul_(grads, factor)
        self._engine.step()

    def drop(self) -> None:
        """Leave the weights as they are and forget the gradients."""
        if self._stage:
            self._known = math.inf
        else:
            # Without ZeRO a parameter with no gradient is not stepped.
            self._engine.zero_grad()
        self._engine.step()


@torch.no_grad()
def head_gradient_norm(head: ClassShard, *, learns_bias: bool) -> float:
    """The L2 norm of a head's gradient over all ranks; collective.

    Args:
        learns_bias: the bias is stepped by its gradient, which then is a part of the norm.
    """
    assert head.weight.grad is not None
    squares = torch.zeros((), dtype=torch.float64, device=head.weight.device)
    # In pieces: the norm of a whole bfloat16 shard would be taken on a float32 copy of it.
    for rows in head.weight.grad.split(_ROWS):
        squares += _square(rows)
    head.ranks.sum_(squares)
    if learns_bias and head.bias is not None and head.bias.grad is not None:
        squares += _square(head.bias.grad)
    return math.sqrt(float(squares))


@torch.no_grad()
def scale_head_gradient(head: ClassShard, factor: float) -> None:
    """Multiply a head's gradient by `factor`, in place."""
    if factor != 1:
        for parameter in head.parameters():
            assert parameter.grad is not None
            parameter.grad.mul_(factor)


def _square(values: Tensor) -> Tensor:
    exact = torch.promote_types(values.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(values, dtype=exact)
    return norm.double().square()
