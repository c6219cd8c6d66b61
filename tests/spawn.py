"""Run a function on several processes joined by gloo: the one helper of all tests that need ranks.

    results = run_ranks(2, check_something, path)

The function is top-level in an importable test module, for the processes are spawned. A spawn
costs seconds of importing torch, so group the checks that need the same number of ranks.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT_S = 120.0
# A rank left waiting by one that failed is given this long to fail by itself.
_SETTLE_S = 1.0


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """`function(*args)` on `world_size` ranks; what each returned, in the order of the ranks.

    Raises:
        AssertionError: a rank raised (with its traceback), died, or did not end in TIMEOUT_S.
    """
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="sf2-ranks-") as name:
        folder = Path(name)
        processes = [
            context.Process(
                target=_rank_main, args=(rank, world_size, folder, function, args), daemon=True
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            in_time = _wait(processes)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                process.join()
        outcomes = [_outcome(folder / str(rank)) for rank in range(world_size)]
    raised = [
        f"rank {rank}:\n{text}" for rank, (text, _) in enumerate(outcomes) if text is not None
    ]
    if raised and not (in_time and all(process.exitcode == 0 for process in processes)):
        raise AssertionError("\n".join(raised))
    assert in_time, f"ranks did not end within {TIMEOUT_S:.0f} s"
    return [value for _, value in outcomes]


def _wait(processes: list[Any]) -> bool:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        codes = [process.exitcode for process in processes]
        if all(code == 0 for code in codes):
            return True
        if any(code for code in codes):
            deadline = min(deadline, time.monotonic() + _SETTLE_S)
        if all(code is not None for code in codes):
            return True
        time.sleep(0.02)
    return False


def _outcome(path: Path) -> tuple[str | None, Any]:
    """The traceback of a rank or None, and its result."""
    if not path.exists():
        return "ended without a result (killed, or still running)", None
    text, value = pickle.loads(path.read_bytes())
    return text, value


def _rank_main(
    rank: int, world_size: int, folder: Path, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    # DeepSpeed asks for what a launcher would have set.
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), DS_ACCELERATOR="cpu"
    )
    outcome: tuple[str | None, Any]
    try:
        # A store in a file needs no port, so tests running at once cannot collide.
        store = dist.FileStore(str(folder / "store"), world_size)
        dist.init_process_group(
            "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=TIMEOUT_S / 2),
        )
        outcome = (None, function(*args))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        outcome = (traceback.format_exc(), None)
    partial = folder / f"{rank}.partial"
    partial.write_bytes(pickle.dumps(outcome))
    partial.rename(folder / str(rank))
    if outcome[0] is not None:
        raise SystemExit(1)
