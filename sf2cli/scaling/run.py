"""`sf2 scale-test` from one end to the other: plan, then measure and report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.scaling import report
from sf2cli.scaling.linux import available_bytes
from sf2cli.scaling.measured import measured
from sf2cli.scaling.options import Options
from sf2cli.scaling.plan import BackboneCost, Budget, Platform, largest_ids, rank_memory
from sf2cli.scaling.plan_table import PlanLine, plan_lines, require_fit, show_plan
from sf2cli.scaling.results import Measurement
from sf2cli.scaling.search import search_largest
from sf2cli.scaling.store import Store, machine
from sf2cli.scaling.target_report import plan_target
from sf2cli.scaling.units import show_bytes
from sf2cli.scaling.workload import Point, Workload

# Of the memory that is free, left to everything else; a stated --memory is taken whole.
_KEPT_FREE = 0.03
_CUDA_DRIVER = Path("/proc/driver/nvidia/version")


def scale_test(options: Options) -> None:
    """Do what the options ask for and print it.

    Raises:
        Sf2Error: it does not fit, a rank failed, or the report cannot be written.
    """
    backbone = _backbone(options.workload)
    if options.target is not None:
        plan_target(options, backbone)
        return
    budget = _budget(options.memory)
    counts = options.num_ids or [_first_guess(options, budget, backbone)]
    lines = plan_lines(options.heads, counts, options.workload, budget, backbone, Platform())
    title = describe(options.workload)
    show_plan(lines, budget, options.workload.nproc, title, aside=options.as_json)
    if not options.largest:
        require_fit(lines, budget, options.workload.nproc)
    measure = partial(measured, store=Store(options.out))
    if options.largest:
        found = [
            search_largest(head, options.workload, budget, backbone, measure)
            for head in options.heads
        ]
        skipped: list[str] = []
    else:
        chosen = [line for line in lines if line.chosen]
        points = [_point(line, options.workload) for line in chosen if line.fits]
        found = [measure(point) for point in points]
        skipped = [_left_out(line, options.workload.nproc) for line in chosen if not line.fits]
    rows = [_row(measurement, backbone) for measurement in found]
    whole = report.whole_report(
        options.workload.model_dump(),
        machine(),
        [line.as_json() for line in lines],
        rows,
        skipped,
        memory_bytes=budget.bytes,
    )
    if options.as_json:
        console.result_json(whole)
    else:
        report.show(rows, skipped, title)
    if options.out is not None:
        report.write(options.out, whole, title)
    if options.largest:
        for most in found:
            console.info(_answer(most, options.memory, budget))


def describe(workload: Workload) -> str:
    """The workload in a few words."""
    ranks = "1 rank" if workload.nproc == 1 else f"{workload.nproc} ranks"
    threads = "1 thread" if workload.threads == 1 else f"{workload.threads} threads"
    text = f"d = {workload.embedding_size}, B = {workload.batch_size}, {ranks} of {threads}"
    if workload.backbone is not None:
        text += f", {workload.backbone} at {workload.image_size} px in plain torch"
    return text


def _backbone(workload: Workload) -> BackboneCost | None:
    if workload.backbone is None:
        return None
    from sf2cli.scaling.backbone_cost import backbone_cost

    return backbone_cost(workload.backbone, workload.embedding_size, workload.image_size)


def _budget(memory: int | None) -> Budget:
    """What --memory says, or what is free: of the machine, or of each CUDA device."""
    if _CUDA_DRIVER.exists():
        import torch

        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            return Budget(memory or int(free * (1 - _KEPT_FREE)), shared=False)
    free = available_bytes()
    if memory is not None and memory > free:
        console.warn(
            f"--memory {show_bytes(memory)} is more than the {show_bytes(free)} that are free here"
        )
    return Budget(memory or int(free * (1 - _KEPT_FREE)))


def _first_guess(options: Options, budget: Budget, backbone: BackboneCost | None) -> int:
    """What --max sets out from: the arithmetic's answer for the first head."""
    guess = largest_ids(options.heads[0], options.workload, budget, backbone)
    if guess < 1:
        raise Sf2Error(
            f"--max: not one identity fits into {show_bytes(budget.bytes)}",
            "Give --memory more, or take fewer ranks.",
        )
    return guess


def _point(line: PlanLine, workload: Workload) -> Point:
    return Point(head=line.head, num_ids=line.num_ids, workload=workload)


def _left_out(line: PlanLine, nproc: int) -> str:
    needed = show_bytes(line.memory.total * nproc)
    return f"not measured: {line.head.label} at {line.num_ids:,} identities needs {needed}"


def _answer(most: Measurement, memory: int | None, budget: Budget) -> str:
    """What --max found, in one sentence."""
    limit = f"--memory {show_bytes(memory)}" if memory else f"the {show_bytes(budget.bytes)} free"
    return (
        f"{most.point.head.label}: {most.point.num_ids:,} identities are the most that trained"
        f" within {limit}; the plan's overhead is an estimate"
    )


def _row(measurement: Measurement, backbone: BackboneCost | None) -> dict[str, Any]:
    point = measurement.point
    planned = rank_memory(point.head, point.num_ids, point.workload, backbone)
    return measurement.row(planned.total)
