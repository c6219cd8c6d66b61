"""Measure a point on fresh ranks of this machine, and watch over them.

Fresh processes, because a peak of memory, a warm allocator or a number of threads would otherwise
leak from one measurement into the next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.scaling.results import RankResult
from sf2cli.scaling.workload import Point

_POLL_S = 0.05
# Long enough for ranks that fail for the same reason to say so themselves.
_SETTLE_S = 1.0


class RankMemoryError(Sf2Error):
    """The machine had less memory than a rank took."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def run_ranks(point: Point, on_tick: Callable[[int], None]) -> list[RankResult]:
    """What each rank found.

    Args:
        on_tick: called with how many more pieces of work are done.

    Raises:
        RankMemoryError: a rank was killed or could not allocate.
        Sf2Error: a rank failed.
    """
    nproc, threads = point.workload.nproc, point.workload.threads
    with tempfile.TemporaryDirectory(prefix="sf2-scale-") as path:
        folder = Path(path)
        (folder / "point.json").write_text(point.model_dump_json(), encoding="utf-8")
        (folder / "progress").touch()
        ranks = [_start(folder, rank, threads) for rank in range(nproc)]
        try:
            failed = _wait(ranks, folder, on_tick)
        finally:
            for process in ranks:
                process.kill()
                process.wait()
        if failed is not None:
            raise _reason(point.name, failed, ranks[failed].returncode, folder)
        return [
            RankResult.model_validate(_outcome(folder, rank)["result"]) for rank in range(nproc)
        ]


def _start(folder: Path, rank: int, threads: int) -> subprocess.Popen[bytes]:
    env = {**os.environ, "RANK": str(rank), "OMP_NUM_THREADS": str(threads)}
    # `python -m` would look for modules in the user's folder first.
    env.setdefault("PYTHONSAFEPATH", "1")
    with (folder / f"rank-{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sf2cli.scaling.rank", str(folder)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _wait(
    ranks: list[subprocess.Popen[bytes]], folder: Path, on_tick: Callable[[int], None]
) -> int | None:
    """Wait for all ranks; None, or the rank that says best why they failed."""

    failed: list[int] = []

    def silence(rank: int) -> tuple[bool, bool, int]:
        # A rank that was killed or has left its reason says more than one that lost its peer,
        # which also ends later.
        killed = ranks[rank].returncode == -signal.SIGKILL
        return not killed, not _outcome(folder, rank), failed.index(rank)

    seen = 0
    deadline: float | None = None
    while True:
        done = (folder / "progress").stat().st_size
        if done > seen:
            on_tick(done - seen)
            seen = done
        codes = [process.poll() for process in ranks]
        failed += [rank for rank, code in enumerate(codes) if code and rank not in failed]
        if failed and deadline is None:
            deadline = time.monotonic() + _SETTLE_S
        if None not in codes or (deadline is not None and time.monotonic() > deadline):
            return min(failed, key=silence, default=None)
        time.sleep(_POLL_S)


def _outcome(folder: Path, rank: int) -> dict[str, Any]:
    """What a rank left behind; empty if nothing."""
    path = folder / f"rank-{rank}.json"
    if not path.exists():
        return {}
    outcome: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return outcome


def _reason(name: str, rank: int, code: int, folder: Path) -> Sf2Error:
    outcome = _outcome(folder, rank)
    if outcome:
        if "message" in outcome:
            return Sf2Error(outcome["message"], outcome["remedy"])
        return RankMemoryError(
            f"{name}: rank {rank} ran out of memory ({outcome['out_of_memory']})"
        )
    if code == -signal.SIGKILL:
        return RankMemoryError(f"{name}: rank {rank} was killed, most likely for lack of memory")
    if code < 0:
        return Sf2Error(f"{name}: rank {rank} was ended by {signal.Signals(-code).name}")
    log = (folder / f"rank-{rank}.log").read_text(encoding="utf-8", errors="replace")
    last = (log.strip().splitlines() or ["it said nothing"])[-1].removeprefix(f"[rank{rank}]: ")
    return Sf2Error(f"{name}: rank {rank} failed with status {code}: {last}")
