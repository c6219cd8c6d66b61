"""Whether the machine was left to the ranks while they were measured."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from sf2cli.scaling.linux import busy_seconds

# Of a core; a few daemons take less.
TOLERATED_CORES = 0.1


class Usage(BaseModel):
    """A stretch of time as one rank saw it.

    Attributes:
        wall_s: how long it was.
        own_s: what this rank's threads worked in it, over all cores.
        machine_s: what everything on the machine worked in it.
        cores: of the machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_s: float
    own_s: float
    machine_s: float
    cores: int


class Stopwatch:
    """Reads a `Usage` from its making on."""

    def __init__(self) -> None:
        self._wall, self._own = time.perf_counter(), time.process_time()
        self._machine = busy_seconds()

    def read(self) -> Usage:
        """The usage up to now."""
        return Usage(
            wall_s=time.perf_counter() - self._wall,
            own_s=time.process_time() - self._own,
            machine_s=busy_seconds() - self._machine,
            cores=os.cpu_count() or 1,
        )


def cores_lost(ranks: Sequence[Usage], wanted: int) -> float:
    """How many of the cores that the ranks wanted worked for other processes meanwhile.

    Args:
        ranks: the same stretch of time, seen by each rank.
        wanted: threads of all ranks together.
    """
    first = ranks[0]
    others = (first.machine_s - sum(rank.own_s for rank in ranks)) / first.wall_s
    return max(0.0, others - max(0, first.cores - wanted))
