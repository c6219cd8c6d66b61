"""Stochastic rounding of float32 to bfloat16, with noise that is a function of place and step.

A step of SGD is often smaller than half the distance between two bfloat16 numbers. Rounding to the
nearest would then undo it every time; rounding up with the probability of the part cut off keeps
the expectation exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ALL = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def mix(x: Tensor) -> Tensor:
    """A hash of 32-bit integers held in int64, in which every input bit reaches every output bit.

    Multipliers: Chris Wellons, "Prospecting for Hash Functions" (lowbias32).
    """
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _ALL
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _ALL
    return x ^ (x >> 16)


def noise(first_row: int, rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    """32 random bits for each entry of rows `first_row` ... of a matrix, int64 [rows, width]."""
    ids = (torch.arange(rows, device=device) + first_row) & _ALL
    row_seed = mix(mix(ids) ^ seed)
    columns = (torch.arange(width, device=device) * _GOLDEN) & _ALL
    return mix((row_seed[:, None] + columns) & _ALL)


def stochastic_bfloat16(values: Tensor, bits: Tensor) -> Tensor:
    """Round float32 to one of the two bfloat16 neighbours, unbiased over the random bits.

    Args:
        values: float32, finite.
        bits: integers in [0, 2^16), of the same shape.
    """
    summed = values.view(torch.int32) + bits.to(torch.int32)
    return (summed & -65536).view(torch.float32).to(torch.bfloat16)
