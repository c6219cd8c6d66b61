"""`--max`: the largest head that trains within a memory, by arithmetic, confirmed by doing it."""

from __future__ import annotations

from collections.abc import Callable

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.scaling.launch import RankMemoryError
from sf2cli.scaling.plan import BackboneCost, Budget, largest_ids
from sf2cli.scaling.results import Measurement
from sf2cli.scaling.units import show_bytes
from sf2cli.scaling.workload import HeadKind, Point, Workload

_ATTEMPTS = 6
_STEP_DOWN = 0.97


def search_largest(
    head: HeadKind,
    workload: Workload,
    budget: Budget,
    backbone: BackboneCost | None,
    measure: Callable[[Point], Measurement],
) -> Measurement:
    """The measurement of the largest head whose peak stays within `budget`.

    The plan's answer is tried first; each attempt that takes more, or fails for lack of memory,
    is followed by a smaller one.

    Raises:
        Sf2Error: none of the attempts stayed within it, or a rank failed for another reason.
    """
    num_ids = largest_ids(head, workload, budget, backbone)
    for _ in range(_ATTEMPTS):
        if num_ids < 1:
            break
        point = Point(head=head, num_ids=num_ids, workload=workload)
        try:
            found = measure(point)
        except RankMemoryError as failure:
            console.warn(f"{failure.message}; going on with fewer")
            num_ids = int(num_ids * _STEP_DOWN)
            continue
        taken = found.all_peaks_bytes if budget.shared else found.peak_bytes
        if taken <= budget.bytes:
            return found
        console.info(f"{point.name}: took {show_bytes(taken)}; going on with fewer")
        num_ids = int(num_ids * min(_STEP_DOWN, budget.bytes / taken))
    raise Sf2Error(
        f"--max: {head.label} did not train within {show_bytes(budget.bytes)}",
        "Give --memory more, or take fewer ranks.",
    )
