"""Measuring on this machine: each piece in fresh ranks, or as the report folder remembers it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.scaling.calibration import Calibration, mean
from sf2cli.scaling.launch import run_job
from sf2cli.scaling.results import TICKS_BESIDE_STEPS, Measurement, RankResult
from sf2cli.scaling.store import Store
from sf2cli.scaling.units import show_seconds
from sf2cli.scaling.usage import TOLERATED_CORES, Usage, cores_lost
from sf2cli.scaling.workload import HeadKind, Point, Workload


class Lab:
    """Runs jobs under one workload.

    Args:
        folder: the report folder, where finished jobs are kept and found again, or None.
    """

    def __init__(self, workload: Workload, folder: Path | None) -> None:
        self._workload = workload
        self._store = Store(folder)

    def calibrate(self, heads: Sequence[HeadKind]) -> Calibration:
        """The machine's own rates for the SphereFace2 heads among `heads`.

        Raises:
            Sf2Error: a rank failed.
        """
        settings: dict[str, Any] = {
            "workload": self._workload.model_dump(),
            "heads": [head.model_dump() for head in heads if not head.is_softmax],
        }
        key = json.dumps(settings)
        kept = self._store.find("calibration", key)
        if kept is not None:
            return Calibration.model_validate(kept)
        with console.progress("this machine's rates", len(settings["heads"]) + 2, "parts") as line:
            ranks = run_job(
                "calibrate",
                settings,
                name="measuring this machine's rates",
                nproc=self._workload.nproc,
                threads=self._workload.threads,
                on_tick=line.advance,
            )
        found = mean([Calibration.model_validate(rank["calibration"]) for rank in ranks])
        usages = [Usage.model_validate(rank["usage"]) for rank in ranks if rank["usage"]]
        if usages:
            wanted = self._workload.nproc * self._workload.threads
            _warn_if_busy(cores_lost(usages, wanted), "the model is slower than the machine")
        self._store.save("calibration", key, found.model_dump())
        return found

    def measure(self, point: Point) -> Measurement:
        """The measurement of `point`.

        Raises:
            RankMemoryError: the machine had not enough.
            Sf2Error: a rank failed.
        """
        name, key = f"{point.head.label}-{point.num_ids}", point.model_dump_json()
        kept = self._store.find(name, key)
        if kept is not None:
            console.info(f"{point.name}: measured before")
            return Measurement.model_validate(kept)
        total = TICKS_BESIDE_STEPS + self._workload.steps
        with console.progress(point.name, total) as line:
            ranks = run_job(
                "measure",
                point.model_dump(),
                name=point.name,
                nproc=self._workload.nproc,
                threads=self._workload.threads,
                on_tick=line.advance,
            )
        found = Measurement(
            point=point,
            ranks=[RankResult.model_validate(rank) for rank in ranks],
        )
        self._store.save(name, key, found.model_dump())
        console.info(f"{point.name}: {show_seconds(found.median_s)} a step")
        _warn_if_busy(found.cores_lost, "its times are too long")
        return found


def _warn_if_busy(lost: float, consequence: str) -> None:
    if lost > TOLERATED_CORES:
        console.warn(f"other processes took {lost:.1f} of the cores meanwhile: {consequence}")
