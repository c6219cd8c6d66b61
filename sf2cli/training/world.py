"""The process group: joining it, leaving it, and telling when another rank was lost."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from sf2cli.errors import Sf2Error
from sf2cli.training.place import Place

GROUP_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class World:
    """A joined process group and the device this rank computes on."""

    rank: int
    size: int
    device: torch.device

    def gather(self, value: Any) -> list[Any]:
        """What each rank says, on every rank; collective."""
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, value)
        return said

    def on_any(self, here: bool) -> bool:
        """Whether it is so on any rank; collective."""
        if self.size == 1:
            return here
        found = torch.tensor(int(here), device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found.item())


def join_world(place: Place | None, timeout_s: float = GROUP_TIMEOUT_S) -> World:
    """Join the process group: NCCL where CUDA is, gloo elsewhere; alone without a launcher.

    Must run before anything imports deepspeed, which picks its accelerator at import.

    Args:
        timeout_s: seconds after which a rank that waits for another one gives up.
    """
    alone = place is None
    place = place or Place(0, 1, 0)
    cuda = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    os.environ.update(
        RANK=str(place.rank), WORLD_SIZE=str(place.world_size), LOCAL_RANK=str(place.local_rank)
    )
    device = torch.device("cuda", place.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    backend = "nccl" if cuda else "gloo"
    if alone:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    else:
        _find_master()
        dist.init_process_group(
            backend,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=timeout_s),
        )
    return World(place.rank, place.world_size, device)


def leave_world() -> None:
    """Leave the process group, if one was joined; on failure without waiting for anyone."""
    if not dist.is_initialized():
        return
    if sys.exc_info()[0] is None:
        # A rank that tears down while another still talks to it aborts that one.
        dist.barrier()
    dist.destroy_process_group()


def is_lost_rank(failure: RuntimeError) -> bool:
    """Whether a collective failed because another rank ended, or could not be reached."""
    # Gloo raises plain RuntimeErrors that begin with the place in its source.
    return isinstance(failure, dist.DistError) or "gloo/" in str(failure)


def _find_master() -> None:
    """Fill MASTER_ADDR and MASTER_PORT where only SLURM's variables name the first host."""
    if "MASTER_ADDR" not in os.environ:
        host = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
        if host is None:
            raise Sf2Error("MASTER_ADDR is not set", "Export the first host's address in it.")
        os.environ["MASTER_ADDR"] = host
    if "MASTER_PORT" not in os.environ:
        # Every rank derives the same port from the job, and two jobs on a host differ.
        os.environ["MASTER_PORT"] = str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000)
