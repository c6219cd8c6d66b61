"""The machine's own matrix-product rate: what a head step is held against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from sf2cli.heads.fused import FusedStep

# So many that a call's own time does not count.
_BLOCKS_A_THREAD = 128
_ROUNDS = 10
_ROUND_S = 0.05


def tile_product_rate(
    batch_size: int,
    embedding_size: int,
    tile_rows: int,
    dtype: torch.dtype,
    device: torch.device,
    fused: FusedStep | None,
) -> float:
    """Flop/s of a step's three matrix products on one tile, again and again, and nothing else.

    The tile is one and the same, so it stays in cache: cosines [tile, B] of rows and features, the
    features' gradient [B, d], and the rows' gradient [tile, d], 6 B d tile flop in all, inputs and
    outputs in `dtype`. The best of a few rounds; all ranks begin together. Of torch's products and
    those of `fused`, on a tile of its own size, the faster ones count.
    """
    x, w = torch.randn(batch_size, embedding_size), torch.randn(tile_rows, embedding_size)
    g = torch.randn(tile_rows, batch_size)
    x, w, g = (values.to(device, dtype) for values in (x, w, g))
    cos, grad_x, grad_w = torch.empty_like(g), torch.empty_like(x), torch.empty_like(w)

    def products() -> None:
        torch.mm(w, x.T, out=cos)
        torch.mm(g.T, w, out=grad_x)
        torch.mm(g, x, out=grad_w)

    flop = 6 * batch_size * embedding_size
    rate = flop * tile_rows / min(rounds(products, device))
    if fused is not None:
        blocks = _BLOCKS_A_THREAD * torch.get_num_threads()
        seconds = min(rounds(lambda: fused.only_products(x, blocks), device))
        rate = max(rate, flop * blocks * fused.block_rows / seconds)
    return rate


def rounds(work: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of one `work` in each of some rounds of about 0.05 s; two before them do not count.

    All ranks begin together and take the same number of turns, so `work` may be collective.
    """
    once = _seconds(work, 1, device)
    once = min(once, _seconds(work, 1, device))
    turns = torch.tensor(max(1, round(_ROUND_S / max(once, 1e-7))), device=device)
    if dist.is_initialized():
        dist.broadcast(turns, 0)
    count = int(turns)
    return [_seconds(work, count, device) / count for _ in range(_ROUNDS)]


def _seconds(work: Callable[[], object], turns: int, device: torch.device) -> float:
    if dist.is_initialized():
        dist.barrier()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(turns):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
