"""Work shared out to processes, with its results in order.

The processes are forked, so the work may be any closure. Each goes through the whole of the work
and does every n-th piece; what it is ahead by waits in its ring, which holds it up when full. The
order depends on no clock, and no lock is shared that a killed process could hold.
"""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from sf2cli.data.ring import Ring
from sf2cli.errors import Sf2Error
from sf2cli.processes import end_with_parent

Result = TypeVar("Result")
# The share of worker w of n: every n-th piece of the work, from piece w on. A piece may come in
# parts; True says that another part of it follows.
Share = Callable[[int, int], Iterator[tuple[bool, Result]]]


# Each holds four open files of the parent, which may have a thousand.
MOST = 200


def all_cores() -> int:
    """How many cores this process may use, and at most MOST."""
    return min(len(os.sched_getaffinity(0)), MOST)


class Workers(Generic[Result]):
    """A context manager; leaving it ends the processes.

    Args:
        count: number of processes; 1 does the work in this one.
        share: the work.
    """

    def __init__(self, count: int, share: Share[Result]) -> None:
        self._count = count
        self._share = share
        self._rings: list[Ring] = []
        self._processes: list[Any] = []

    def __enter__(self) -> Workers[Result]:
        if self._count == 1:
            return self
        context = mp.get_context("fork")
        for number in range(self._count):
            ring = Ring()
            self._rings.append(ring)
            process = context.Process(target=self._main, args=(number, ring), daemon=True)
            process.start()
            self._processes.append(process)
            ring.close_writing()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for ring in self._rings:
            ring.close_reading()

    def results(self) -> Iterator[Result]:
        """The parts of all pieces, in order.

        What a part gives out of band when it is pickled is a memoryview here, and holds until the
        next part is asked for.

        Raises:
            Sf2Error: as the work does, or a process was killed.
        """
        if self._count == 1:
            yield from (part for _, part in self._share(0, 1))
            return
        number = 0
        while True:
            more, part = self._receive(number)
            if part is None:
                return
            yield part
            self._rings[number].release()
            if not more:
                number = (number + 1) % self._count

    def _receive(self, number: int) -> tuple[bool, Result | None]:
        try:
            answer = self._rings[number].receive()
        except (EOFError, OSError):
            self._processes[number].join()
            raise Sf2Error(
                f"a working process ended with status {self._processes[number].exitcode}",
                "Often memory ran out: use fewer --workers.",
            ) from None
        if isinstance(answer, _Failure):
            raise answer.error()
        more, part = answer
        return more, part

    def _main(self, number: int, ring: Ring) -> None:
        end_with_parent()
        # Ctrl-C goes to the whole group; the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for other in (signal.SIGTERM, signal.SIGHUP):
            # Under nohup SIGHUP is ignored, and stays so.
            if signal.getsignal(other) != signal.SIG_IGN:
                signal.signal(other, signal.SIG_DFL)
        # A collection would touch, and so copy, every page of the parent's objects.
        gc.freeze()
        for one in self._rings:
            one.close_reading()
        try:
            for answer in self._share(number, self._count):
                ring.send(answer)
            ring.send((False, None))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Sf2Error as failure:
            ring.send(_Failure(failure.message, failure.remedy))
        except Exception:
            ring.send(_Failure(None, traceback.format_exc()))


class _Failure:
    """An exception of a worker; without a message it is a fault of ours, with its traceback."""

    def __init__(self, message: str | None, rest: str | None) -> None:
        self.message, self.rest = message, rest

    def error(self) -> Exception:
        if self.message is None:
            return RuntimeError(f"in a working process:\n{self.rest}")
        return Sf2Error(self.message, self.rest)
