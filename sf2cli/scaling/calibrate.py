"""One rank's measurement of the machine's own rates: what the model of a step is made of.

Each rate is of one piece of the head's step by itself: the three products on more rows than the
caches hold, the update as what it adds to them (it finds rows and gradients where they left them,
in this core's cache or another's), the element-wise kernel on one tile, a tile's dispatch, and the
collectives. A fused step has no pieces that could be timed apart: its own clocks tell them.
Medians, and all ranks at once, so that they share the machine as in a step.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.heads.arguments import SGDStep, Targets
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.tiles import row_tiles
from sf2cli.scaling import contestants
from sf2cli.scaling.body import build_body
from sf2cli.scaling.products import rounds
from sf2cli.scaling.step_time import Rates, step_time
from sf2cli.scaling.workload import HeadKind, Workload

# Weight and momentum of what is timed tile by tile: well beyond a last-level cache.
_STREAMED_BYTES = 2**27
# Identities a rank of the heads whose steps cost little but dispatch.
_SMALL_ROWS = 64


def measure_rates(kind: HeadKind, workload: Workload, device: torch.device) -> Rates:
    """The rates of a SphereFace2 head of that kind; collective. The backbone is left out."""
    workload = workload.model_copy(update={"backbone": None})
    batch, width = workload.batch_size, workload.embedding_size
    head = contestants.one_vs_all(kind, workload.nproc, workload, device)
    rows = head.tile_size(batch)
    value_bytes = head.weight.element_size() * (1 + kind.momentum)
    streamed = max(1, _STREAMED_BYTES // (width * value_bytes * rows)) * rows
    weight = torch.randn(streamed, width).to(device, head.weight.dtype)
    if head.fused(batch):
        parts = _fused_seconds(head, kind, weight, batch)
    else:
        parts = _tiled_seconds(head, kind, weight, batch, device)
    latency, link = _collectives(workload, device)
    rates = Rates(
        product_flops=6 * batch * width * streamed / parts["product"],
        pairs=streamed * batch / parts["elementwise"],
        update=2 * streamed * width * value_bytes / parts["update"],
        latency=latency,
        link=link,
        tile_rows=rows,
        dispatch=0.0 if head.fused(batch) else _dispatch_seconds(kind, workload, device),
    )
    return rates.model_copy(update={"fixed": _fixed_seconds(kind, workload, device, rates)})


def _fused_seconds(
    head: ShardedHead, kind: HeadKind, weight: torch.Tensor, batch: int
) -> dict[str, float]:
    """Seconds of each phase of a fused step of all of `weight`."""
    fused = head.fused(batch)
    assert fused is not None
    features = F.normalize(torch.randn(batch, weight.shape[1])).to(weight.dtype)
    targets = _no_targets(head, batch)
    momentum = torch.zeros_like(weight) if kind.momentum else None
    found = []

    def work() -> None:
        before = dict(fused.seconds)
        settings = (head.bias.detach(), head.hp, _sgd_step(kind))
        fused(weight, momentum, features, features / batch, targets, 0, *settings)
        found.append({phase: fused.seconds[phase] - before[phase] for phase in before})

    rounds(work, weight.device)
    return {phase: statistics.median(each[phase] for each in found) for phase in fused.seconds}


def _tiled_seconds(
    head: ShardedHead, kind: HeadKind, weight: torch.Tensor, batch: int, device: torch.device
) -> dict[str, float]:
    """The same of a step tile by tile."""
    rows = head.tile_size(batch)
    product_s = _seconds(_tiles(head, weight, rows, batch, None), device)
    both_s = _seconds(_tiles(head, weight, rows, batch, _update(head, kind, weight)), device)
    negatives_s = _seconds(_negatives(head, rows, batch), device)
    return {
        "product": product_s,
        "elementwise": negatives_s * len(weight) / rows,
        "update": max(both_s - product_s, 1e-3 * product_s),
    }


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    return statistics.median(rounds(work, device))


def _tiles(
    head: ShardedHead,
    weight: torch.Tensor,
    rows: int,
    batch: int,
    update: Callable[[slice, torch.Tensor], None] | None,
) -> Callable[[], None]:
    """The three products of every tile of `weight`, and what follows on each."""
    dtype = head.products
    features = torch.randn(batch, weight.shape[1]).to(weight.device, dtype)
    cos = torch.zeros(rows, batch, dtype=dtype, device=weight.device)
    grad = torch.empty(rows, weight.shape[1], dtype=dtype, device=weight.device)

    def work() -> None:
        for tile in row_tiles(len(weight), rows):
            part = weight[tile].to(dtype)
            torch.mm(part, features.T, out=cos)
            torch.mm(cos.T, part)
            torch.mm(cos, features, out=grad)
            if update is not None:
                update(tile, grad)

    return work


def _negatives(head: ShardedHead, rows: int, batch: int) -> Callable[[], object]:
    """The element-wise kernel on one tile."""
    device, bias = head.weight.device, head.bias.detach()
    cos = torch.zeros(rows, batch, dtype=head.products, device=device)
    grad_cos = torch.empty_like(cos)
    targets = _no_targets(head, batch)
    return lambda: head.kernels.negatives(cos, grad_cos, targets, 0, None, bias, head.hp)


def _no_targets(head: ShardedHead, batch: int) -> Targets:
    """Samples of which none is a row's own."""
    return Targets(
        torch.full((batch,), -1, dtype=torch.int32, device=head.weight.device),
        torch.zeros(batch, device=head.weight.device, dtype=head.bias.dtype),
    )


def _update(
    head: ShardedHead, kind: HeadKind, weight: torch.Tensor
) -> Callable[[slice, torch.Tensor], None]:
    """The SGD step of a tile of `weight`, by its gradient."""
    momentum, step = torch.zeros_like(weight) if kind.momentum else None, _sgd_step(kind)

    def update(tile: slice, grad: torch.Tensor) -> None:
        part = None if momentum is None else momentum[tile]
        head.kernels.update(weight[tile], part, grad, tile.start, step)

    return update


def _sgd_step(kind: HeadKind) -> SGDStep:
    return SGDStep(
        contestants.LEARNING_RATE,
        contestants.MOMENTUM if kind.momentum else 0.0,
        contestants.WEIGHT_DECAY,
        seed=0,
    )


def _dispatch_seconds(kind: HeadKind, workload: Workload, device: torch.device) -> float:
    """What a tile costs beside its work: a step of a tiny head in one tile and in many."""
    tiny = workload.model_copy(update={"embedding_size": 8, "batch_size": workload.nproc})
    one, many = (
        _small_step_seconds(kind, tiny, device, _SMALL_ROWS // tiles) for tiles in (1, _SMALL_ROWS)
    )
    # Drawn rows come in stretches as long as it takes to draw one.
    tiles = math.ceil(_SMALL_ROWS / max(1, round(1 / kind.rate)))
    return max(0.0, many - one) / max(1, tiles - 1)


def _fixed_seconds(kind: HeadKind, workload: Workload, device: torch.device, rates: Rates) -> float:
    """What a step costs beside what the model knows of: a small head's step less that."""
    known = step_time(kind, _SMALL_ROWS * workload.nproc, workload, rates).total
    return max(0.0, _small_step_seconds(kind, workload, device, None) - known)


def _small_step_seconds(
    kind: HeadKind, workload: Workload, device: torch.device, tile_size: int | None
) -> float:
    features = build_body(workload, device).features()
    labels = torch.zeros(len(features), dtype=torch.int64, device=device)
    head = contestants.one_vs_all(kind, _SMALL_ROWS * workload.nproc, workload, device, tile_size)
    sgd = HeadSGD(head, contestants.LEARNING_RATE)
    return _seconds(functools.partial(sgd.one_pass, features, labels), device)


def _collectives(workload: Workload, device: torch.device) -> tuple[float, float]:
    """Seconds of a small collective, and bytes/s of a large one beyond that; 0 and 1 alone."""
    if not dist.is_initialized():
        return 0.0, 1.0
    few = torch.zeros(2, dtype=torch.float64, device=device)
    latency = _seconds(lambda: dist.all_reduce(few), device)
    size = workload.batch_size * workload.embedding_size
    ranks = Ranks.of(None)
    mine = torch.zeros(size // workload.nproc, device=device)
    every = torch.zeros(len(mine) * workload.nproc, device=device)
    gather = _seconds(lambda: ranks.gather(mine), device)
    scatter = _seconds(lambda: ranks.sum_and_scatter(every), device)
    beyond = max((gather + scatter) / 2 - latency, 1e-9)
    return latency, every.numel() * 4 / beyond
