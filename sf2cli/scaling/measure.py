"""One rank's measurement of a point: step times, losses, the peak of memory, and where time goes.

Every rank does the same and the starter puts the ranks together. What is not a training step (the
profiled step, the bare products) comes after the last timed one and after the peak was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from sf2cli.scaling import linux
from sf2cli.scaling.body import Body, build_body
from sf2cli.scaling.calibrate import measure_rates
from sf2cli.scaling.contestants import Contestant, build
from sf2cli.scaling.phases import profile_phases
from sf2cli.scaling.products import tile_product_rate
from sf2cli.scaling.results import WARM_UP_STEPS, RankResult
from sf2cli.scaling.usage import Stopwatch
from sf2cli.scaling.workload import Point, Workload

# Identities of the head that loads the libraries before memory is counted: few, so that the
# buffers it leaves behind hide nothing.
_PRIMING_IDS = 64
# The tile of the bare products for a head that has none itself.
_BARE_TILE_ROWS = 1024
# A profile of more tiles than this takes memory and says the same.
_PROFILED_TILES = 64


def measure(point: Point, device: torch.device, tick: Callable[[], None]) -> RankResult:
    """Measure `point` on this rank; collective. `tick` counts work done.

    Raises:
        RuntimeError: not enough memory.
    """
    workload = point.workload
    _prime(point, device)
    rates = None
    if not point.head.is_softmax:
        rates = measure_rates(point.head, workload, device)
    early_rate = _tile_rate(build(_tiny(point), device), point, device)
    linux.release_unused()
    before = _held(device)
    was_reset = _reset_peak(device)
    tick()
    body = build_body(workload, device)
    head = build(point, device)
    labels = _labels(point, device)
    tick()
    losses, steps, heads = [], [], []
    watch = Stopwatch()
    for number in range(WARM_UP_STEPS + workload.steps):
        if number == WARM_UP_STEPS:
            watch = Stopwatch()
        step_s, head_s, loss = _timed_step(body, head, labels, device)
        losses.append(loss)
        if number >= WARM_UP_STEPS:
            steps.append(step_s)
            heads.append(head_s)
        tick()
    usage = watch.read()
    peak, kept, tile = _peak(device), head.kept_bytes, head.tile_rows
    shown = point
    if tile and not head.fused and point.rows > _PROFILED_TILES * tile:
        shown = point.model_copy(update={"num_ids": _PROFILED_TILES * tile * workload.nproc})
        del head
        linux.release_unused()
        head = build(shown, device)
        labels = _labels(shown, device)
        _timed_step(body, head, labels, device)
    features = body.features()
    phases = profile_phases(
        lambda: head.step(features, labels),
        device,
        point.num_ids / shown.num_ids,
        head.fused.seconds if head.fused else {},
    )
    tick()
    late_rate = _tile_rate(head, point, device)
    tick()
    return RankResult(
        device=device.type,
        step_s=steps,
        head_s=heads,
        losses=losses,
        before_bytes=before,
        kept_bytes=kept,
        peak_bytes=peak,
        peak_was_reset=was_reset,
        phases=phases,
        product_flops=max(early_rate, late_rate),
        usage=usage,
        rates=rates,
        tile_rows=tile,
        products=str(head.products).removeprefix("torch."),
        kernels=head.kernels,
    )


def _timed_step(
    body: Body, head: Contestant, labels: torch.Tensor, device: torch.device
) -> tuple[float, float, float]:
    """Seconds of a step, seconds of it in the head, and the loss."""
    if dist.is_initialized():
        dist.barrier()
    _synchronize(device)
    began = time.perf_counter()
    features = body.features()
    _synchronize(device)
    head_began = time.perf_counter()
    loss = head.step(features, labels)
    _synchronize(device)
    head_ended = time.perf_counter()
    body.learn(features)
    _synchronize(device)
    return time.perf_counter() - began, head_ended - head_began, float(loss)


def _tile_rate(head: Contestant, point: Point, device: torch.device) -> float:
    """The bare products in the head's type on a tile. Taken before and after the steps, for the
    machine may have been busy at one of the two."""
    workload = point.workload
    rows = min(point.rows, head.tile_rows or _BARE_TILE_ROWS)
    shape = (workload.batch_size, workload.embedding_size, rows)
    return tile_product_rate(*shape, head.products, device, head.fused)


def _tiny(point: Point) -> Point:
    workload = point.workload.model_copy(update={"backbone": None})
    return point.model_copy(update={"num_ids": _PRIMING_IDS, "workload": workload})


def _prime(point: Point, device: torch.device) -> None:
    """Have every library loaded before memory is counted: a tiny head takes two steps."""
    tiny = _tiny(point)
    body, head = build_body(tiny.workload, device), build(tiny, device)
    for _ in range(2):
        _timed_step(body, head, _labels(tiny, device), device)


def _labels(point: Point, device: torch.device) -> torch.Tensor:
    rank = dist.get_rank() if dist.is_initialized() else 0
    generator = torch.Generator().manual_seed(point.workload.seed * 1000 + rank)
    size = (_rank_batch(point.workload),)
    return torch.randint(0, point.num_ids, size, generator=generator).to(device)


def _rank_batch(workload: Workload) -> int:
    return workload.batch_size // workload.nproc


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return linux.resident_bytes()


def _reset_peak(device: torch.device) -> bool:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    return linux.reset_peak()


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return linux.peak_bytes()
