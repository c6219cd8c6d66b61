"""How a backbone's forward pass is run: its precision, compiled or not, what it keeps.

A module's `forward` is replaced, the module is not: names and shapes of its state stay.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sf2cli.heads.precision import slowdown

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Products alone do not make a step: a precision that is a little slower is not worth a word.
_SLOW = 1.5


def _replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    object.__setattr__(module, "forward", forward)


def run_in(module: nn.Module, precision: str, device: torch.device) -> None:
    """Autocast `module`: weights stay float32, convolutions and products run in `precision`.

    It is not DeepSpeed's autocast, which knows bf16's needs only: its fp16 would scale and skip on
    each rank by itself, without the head.
    """
    if precision in _DTYPES:
        cast = torch.autocast(device.type, _DTYPES[precision])
        _replace_forward(module, cast(module.forward))


def slow_precision(precision: str, device: torch.device) -> str | None:
    """What to tell where `device` has no fast products of that precision."""
    if precision not in _DTYPES:
        return None
    times = slowdown(_DTYPES[precision], device)
    if times < _SLOW:
        return None
    return (
        f"precision {precision}: matrix products take {times:.3g} times as long as in fp32 on this"
        " machine; precision fp32 is likely faster"
    )


def compile_forward(module: nn.Module) -> None:
    """Run `module` through torch.compile, which starts at the first step."""
    _replace_forward(module, torch.compile(module.forward))


def fast_on_cpu(module: nn.Module) -> None:
    """Run `module`'s PReLUs as two ReLUs, and keep the memory that activations come and go in.

    The backward pass of torch's PReLU takes three times as long on a CPU; values are the same, and
    gradients but where an input is exactly zero. glibc gives large blocks back when they are freed
    and has the system clear them again at the next step, for a tenth of its time.
    """
    for part in module.modules():
        if isinstance(part, nn.PReLU):
            _replace_forward(part, partial(_two_relus, part))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _two_relus(prelu: nn.PReLU, x: Tensor) -> Tensor:
    weight = prelu.weight.to(x.dtype).view(-1, *(1 for _ in x.shape[2:]))
    return torch.relu(x) - weight * torch.relu(-x)


def checkpoint_units(module: nn.Module) -> None:
    """Keep only the inputs of `module`'s residual units and compute the rest again in backward.

    A unit is a child of an nn.Sequential or nn.ModuleList that has children of its own.
    """
    for child in module.children():
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and next(child.children(), None):
            again = partial(_contexts, child)
            _replace_forward(
                child, partial(checkpoint, child.forward, use_reentrant=False, context_fn=again)
            )
        else:
            checkpoint_units(child)


def _contexts(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(unit)


@contextmanager
def _statistics_kept(unit: nn.Module) -> Iterator[None]:
    """Compute again without changing BatchNorm's running statistics, which have seen this batch."""
    norms = [m for m in unit.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Autograd keeps the statistics as well, so they have to be passed to the operator.
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, seen in kept:
            norm.momentum = momentum
            norm.num_batches_tracked = seen
