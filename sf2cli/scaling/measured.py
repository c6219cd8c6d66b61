"""A point's measurement: made now, or kept in the report folder by a run before."""

from __future__ import annotations

from sf2cli import console
from sf2cli.scaling.launch import run_ranks
from sf2cli.scaling.results import TICKS_BESIDE_STEPS, Measurement
from sf2cli.scaling.store import Store
from sf2cli.scaling.units import show_seconds
from sf2cli.scaling.usage import TOLERATED_CORES
from sf2cli.scaling.workload import Point


def measured(point: Point, store: Store) -> Measurement:
    """The measurement of `point`, which is in `store` afterwards.

    Raises:
        RankMemoryError: the machine had not enough.
        Sf2Error: a rank failed, or what the store has is damaged.
    """
    name, settings = f"{point.head.label}-{point.num_ids}", point.model_dump_json()
    kept = store.find(name, settings, Measurement)
    if kept is not None:
        console.info(f"{point.name}: measured before")
        return kept
    with console.progress(point.name, TICKS_BESIDE_STEPS + point.workload.steps) as line:
        found = Measurement(point=point, ranks=run_ranks(point, line.advance))
    store.save(name, settings, found)
    console.info(f"{point.name}: {show_seconds(found.median_s)} a step")
    kernels = found.ranks[0].kernels
    if ", slow" in kernels:
        console.warn(f"the head's element-wise work ran in {kernels}")
    if found.cores_lost > TOLERATED_CORES:
        console.warn(
            f"other processes took {found.cores_lost:.1f} of the cores meanwhile: its times are"
            " too long"
        )
    return found
