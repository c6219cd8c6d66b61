"""Floating buffers, BatchNorm's running statistics, which differ by rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Every rank's floating buffers, [ranks, ...] in float32 on the CPU; collective.

    A model gets their mean; a run that goes on with as many ranks needs each rank's own, or the
    mean of means would not be the mean to the last bit.
    """
    gathered = {}
    for name, buffer in _floating(module):
        own = buffer.detach().float().contiguous()
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        gathered[name] = torch.stack(every).cpu()
    return gathered


def restore_buffers(module: nn.Module, gathered: dict[str, Tensor]) -> None:
    """Give this rank its own again, where as many ranks saved; else leave the mean."""
    for name, buffer in _floating(module):
        every = gathered[name]
        if len(every) == dist.get_world_size():
            buffer.detach().copy_(every[dist.get_rank()])


def _floating(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, b) for name, b in module.named_buffers() if b.is_floating_point()]
