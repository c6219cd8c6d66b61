"""Which type this machine multiplies matrices in the fastest, measured once a process."""

from __future__ import annotations

import functools
import time

import torch

_ROWS, _BATCH, _WIDTH = 1024, 128, 512
_REPEATS = 5
# float32 products lose nothing, so bfloat16 has to win clearly.
_WORTH = 1.2


@functools.cache
def fast_products(device: torch.device) -> torch.dtype:
    """bfloat16 where a tile's product is clearly faster in it than in float32, else float32."""
    faster = _WORTH * slowdown(torch.bfloat16, device) < 1
    return torch.bfloat16 if faster else torch.float32


def slowdown(dtype: torch.dtype, device: torch.device) -> float:
    """How many times as long as in float32 a tile's product takes in `dtype`."""
    return _seconds(dtype, device) / _seconds(torch.float32, device)


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The shortest of a few products; the first, which sets the library up, does not count."""
    left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
    right = torch.ones(_WIDTH, _BATCH, dtype=dtype, device=device)
    best = float("inf")
    for attempt in range(_REPEATS + 1):
        _wait(device)
        began = time.perf_counter()
        left @ right
        _wait(device)
        if attempt:
            best = min(best, time.perf_counter() - began)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
