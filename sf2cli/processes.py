"""How a process ends that another one started, or that is not ready yet."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sf2cli import console

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the system kill this process when the one that started it dies, whatever killed it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once, with status 130, and cleans nothing up.

    For imports of C++: one that is interrupted by an exception aborts, with a message of its own.
    A Ctrl-C that was held back until now counts, and none is held back from here on. Where Ctrl-C
    is ignored, as in a shell's background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        console.error("interrupted")
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
