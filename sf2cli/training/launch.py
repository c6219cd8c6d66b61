"""`--nproc N`: run this command as N ranks on this machine and watch over them.

The first rank keeps the terminal; what the others print is kept aside, and shown only when one of
them is the first to fail.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sf2cli import console

GRACE_S = 5.0
# The exit status of a rank that ended because another one did.
LOST_RANK = 3
_POLL_S = 0.1
# Long enough for ranks that fail for the same reason to end by themselves.
_SETTLE_S = 1.0


def launch_ranks(nproc: int, arguments: Sequence[str]) -> int:
    """Run `sf2 ARGUMENTS` as `nproc` ranks; return the exit status of the one that failed, or 0.

    When a rank fails the others are stopped: SIGTERM, then SIGKILL after GRACE_S seconds. Ctrl-C,
    SIGTERM and SIGUSR1 are passed on, and the ranks given the time to save; a second Ctrl-C ends
    them. No rank outlives this call.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _exit_on_signal)
    with tempfile.TemporaryDirectory(prefix="sf2-ranks-") as folder:
        logs = [Path(folder) / f"rank-{rank}.log" for rank in range(nproc)]
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            _start(ranks, nproc, arguments, logs)
            _pass_on(ranks, told)
            failed = _wait(ranks)
            _stop(ranks)
        except KeyboardInterrupt:
            # A terminal sends the same signal to every rank, and the first one says so.
            _reap(ranks)
            if not ranks or ranks[0].returncode < 0:
                console.error("interrupted, without waiting for a checkpoint")
            return 130
        finally:
            for process in ranks:
                process.kill()
        if failed is None:
            return 0
        code = ranks[failed].returncode
        if told and code not in (1, 2):
            if code < 0:
                console.error("stopped before the first step")
            return 128 + told[0]
        return _account(failed, ranks, logs)


def _exit_on_signal(number: int, _: object) -> None:
    sys.exit(128 + number)


def _pass_on(ranks: Sequence[subprocess.Popen[bytes]], told: list[int]) -> None:
    """From here on hand signals to the ranks, and add them to `told`."""

    def note(number: int, _: object) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)
        for process in ranks:
            # Not Ctrl-C: a terminal has sent that to every rank, for which a second is the last.
            process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, note)


def _start(
    ranks: list[subprocess.Popen[bytes]], nproc: int, arguments: Sequence[str], logs: Sequence[Path]
) -> None:
    """Add the ranks to `ranks` as they start: a signal may come between two of them.

    They start with Ctrl-C held back, which would end a Python that is not ready with its own words.
    """
    common = dict(os.environ)
    # `python -m` would look for modules in the user's folder first.
    common.setdefault("PYTHONSAFEPATH", "1")
    common.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()), WORLD_SIZE=str(nproc))
    common.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for rank in range(nproc):
            command = [sys.executable, "-m", "sf2cli.cli", *arguments]
            env = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            if rank == 0:
                ranks.append(subprocess.Popen(command, env=env))
            else:
                with logs[rank].open("wb") as log:
                    ranks.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The rank that failed, once the others had a moment to fail too; None if none did."""
    while True:
        codes = [process.poll() for process in ranks]
        if any(codes):
            time.sleep(_SETTLE_S)
            codes = [process.poll() for process in ranks]
            return _culprit(codes)
        if all(code == 0 for code in codes):
            return None
        time.sleep(_POLL_S)


def _culprit(codes: Sequence[int | None]) -> int:
    """The rank that made the others fail: a killed one, else one with a reason of its own."""
    failed = [rank for rank, code in enumerate(codes) if code]
    killed = [rank for rank in failed if (codes[rank] or 0) < 0]
    reasoned = [rank for rank in failed if codes[rank] != LOST_RANK]
    return (killed or reasoned or failed)[0]


def _stop(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    _reap(ranks)


def _reap(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; after GRACE_S seconds make them."""
    deadline = time.monotonic() + GRACE_S
    for process in ranks:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _account(failed: int, ranks: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> int:
    """Show why the run ended, unless the first rank has already said so; return the status."""
    code = ranks[failed].returncode
    if code < 0:
        console.error(
            f"rank {failed} was killed by {signal.Signals(-code).name}\n"
            "  Where memory ran out, lower batch_size; go on with --resume."
        )
        return 1
    first_spoke = ranks[0].returncode in (1, 2)
    if failed != 0 and not first_spoke:
        said = logs[failed].read_text(encoding="utf-8", errors="replace").strip()
        console.error(f"rank {failed} failed:\n{said.removeprefix('error: ')}")
    return 1 if code == LOST_RANK else code


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
