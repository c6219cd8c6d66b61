"""One rank of a measurement: `python -m sf2cli.scaling.rank FOLDER`, started by `launch`.

FOLDER/point.json says what to measure, FOLDER/progress gets a byte for every piece of work that
rank 0 has done, and FOLDER/rank-N.json the result, or the reason why there is none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sf2cli.errors import Sf2Error
from sf2cli.scaling.measure import measure
from sf2cli.scaling.workload import Point

# Longer than any rank can be behind the others: they make their shards at the same time.
_TIMEOUT = timedelta(minutes=30)


def main(folder: Path) -> int:
    """Measure the point of FOLDER as the rank that the environment names; the exit status."""
    rank = int(os.environ["RANK"])
    point = Point.model_validate_json((folder / "point.json").read_text(encoding="utf-8"))
    torch.set_num_threads(point.workload.threads)
    outcome: dict[str, Any]
    try:
        device = _join(folder, rank, point.workload.nproc)
        outcome = {"result": measure(point, device, _ticker(folder, rank)).model_dump()}
        # A rank that tears down while another still talks to it aborts that one.
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
    except Sf2Error as failure:
        outcome = {"message": failure.message, "remedy": failure.remedy}
    except (MemoryError, RuntimeError) as failure:
        if not _is_out_of_memory(failure):
            raise
        outcome = {"out_of_memory": str(failure).splitlines()[0] if str(failure) else "no memory"}
    partial = folder / f"rank-{rank}.partial"
    partial.write_text(json.dumps(outcome), encoding="utf-8")
    partial.rename(folder / f"rank-{rank}.json")
    return 0 if "result" in outcome else 1


def _join(folder: Path, rank: int, nproc: int) -> torch.device:
    cuda = torch.cuda.is_available()
    if cuda and torch.cuda.device_count() < nproc:
        raise Sf2Error(
            f"--nproc is {nproc}, this machine has {torch.cuda.device_count()} CUDA devices",
            "Take fewer ranks, or hide the devices with CUDA_VISIBLE_DEVICES= to run on the CPU.",
        )
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if nproc > 1:
        # A store in a file needs no port, so runs at once cannot collide.
        store = dist.FileStore(str(folder / "store"), nproc)
        dist.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=rank, world_size=nproc, timeout=_TIMEOUT
        )
    return device


def _ticker(folder: Path, rank: int) -> Callable[[], None]:
    """To be called after each piece of work; it ends a rank whose starter has gone."""
    starter = os.getppid()

    def tick() -> None:
        if os.getppid() != starter:
            raise SystemExit(1)
        if rank == 0:
            with (folder / "progress").open("ab") as stream:
                stream.write(b".")

    return tick


def _is_out_of_memory(failure: BaseException) -> bool:
    if isinstance(failure, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(failure)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    # Tearing the interpreter down now and then aborts a rank that is done, over one of its threads.
    os._exit(status)
