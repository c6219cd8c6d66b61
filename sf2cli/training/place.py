"""Which rank this process is.

One code path for a plain process, torchrun, DeepSpeed's launcher, SLURM and `--nproc`: each says
rank, world size and local rank in the environment, and this file reads them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sf2cli.errors import Sf2Error


@dataclass(frozen=True)
class Place:
    """A process's place among the ranks, as its launcher told it."""

    rank: int
    world_size: int
    local_rank: int


def read_place(env: Mapping[str, str]) -> Place | None:
    """The place that torchrun, DeepSpeed, `--nproc` or srun put in the environment; else None.

    Raises:
        Sf2Error: variables of a launcher that are not numbers, or a rank outside the world.
    """
    launched = "RANK" in env and "WORLD_SIZE" in env
    if launched:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_STEP_ID" in env and "SLURM_PROCID" in env:
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    else:
        return None
    try:
        rank, size, local = (int(env.get(name, "0")) for name in names)
    except ValueError:
        values = ", ".join(f"{name}={env.get(name)}" for name in names)
        raise Sf2Error(f"launcher variables are not whole numbers: {values}") from None
    if not 0 <= rank < size:
        raise Sf2Error(f"{names[0]} is {rank}, expected 0 to {names[1]} - 1 = {size - 1}")
    return Place(rank, size, local)
