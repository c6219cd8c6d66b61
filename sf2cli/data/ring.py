"""What a worker hands to the process that forked it, its bulk in memory that both see.

The pipe carries only the small things; bytes that an object gives out of band (pickle protocol 5)
go through a ring of places in shared memory, and are not copied again on the other side.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing.connection import Connection
from typing import Any

# A worker is ahead by as many messages; the longest are a little over a megabyte.
_PLACES = 8
_PLACE_BYTES = 1 << 21


class Ring:
    """One worker's way to its parent; made before the fork, and then held by one end each."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PLACES * _PLACE_BYTES)
        self._reading, self._writing = (Connection(end, *way) for end, way in _pipe())
        self._taken, self._free = os.pipe()
        self._messages = 0

    def close_writing(self) -> None:
        """In the parent: the worker's end is the worker's alone."""
        self._writing.close()
        os.close(self._taken)

    def close_reading(self) -> None:
        """In a worker, for its own ring and those of others; in the parent, at the end."""
        self._reading.close()
        os.close(self._free)

    def send(self, message: object) -> None:
        """Hand over a message, as soon as there is a place.

        Raises:
            BrokenPipeError: the parent has closed its end.
        """
        if self._messages >= _PLACES and not os.read(self._taken, 1):
            raise BrokenPipeError
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(message, 5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        if sum(map(len, views)) > _PLACE_BYTES:
            head, views = pickle.dumps(message, 5), []
        place = self._messages % _PLACES * _PLACE_BYTES
        for view in views:
            self._memory[place : place + len(view)] = view
            place += len(view)
        self._writing.send((head, [len(view) for view in views]))
        self._messages += 1

    def receive(self) -> Any:
        """The next message. What came out of band in it is a memoryview, until `release`.

        Raises:
            EOFError, OSError: the worker has ended, between two messages or within one.
        """
        head, lengths = self._reading.recv()
        place = self._messages % _PLACES * _PLACE_BYTES
        views = []
        memory = memoryview(self._memory)
        for length in lengths:
            views.append(memory[place : place + length])
            place += length
        self._messages += 1
        return pickle.loads(head, buffers=views)

    def release(self) -> None:
        """Let the worker write over the oldest message received."""
        try:
            os.write(self._free, b"\0")
        except BrokenPipeError:
            # It had nothing more to send.
            return


def _pipe() -> list[tuple[int, tuple[bool, bool]]]:
    """The ends of a pipe for `Connection`, each with whether it can be read and written."""
    reading, writing = os.pipe()
    return [(reading, (True, False)), (writing, (False, True))]
