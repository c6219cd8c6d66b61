"""The initial weights of a head: a function of the seed and the class id alone."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 1024


@torch.no_grad()
def initialize_rows_(weight: Tensor, start: int, seed: int) -> None:
    """Fill `weight` [shard, d] with unit rows for the classes from id `start` on.

    Directions are uniform on the sphere; the official code's scale (Xavier) is lost in its first
    renormalisation. Ids are drawn in blocks of BLOCK, each with a generator of its own and on the
    CPU, so that any number of ranks and any device give a class the same row.
    """
    stop = start + len(weight)
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        generator = torch.Generator().manual_seed(derived_seed(seed, block))
        rows = F.normalize(torch.randn(BLOCK, weight.shape[1], generator=generator))
        first, last = max(start, block * BLOCK), min(stop, (block + 1) * BLOCK)
        weight[first - start : last - start] = rows[first - block * BLOCK : last - block * BLOCK]


def derived_seed(*parts: int) -> int:
    """A seed in [0, 2^56) that differs wherever one of the parts does."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
