"""A shard as it is written: hashed on its way, and past the page cache where that is possible.

Filling the cache with pages that nobody reads again costs more than the disk's own time, and
drives out what other programs read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

_BUFFER_BYTES = 1 << 20
# 0 where the system has no such thing.
_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """A new file to write to, in order.

    Args:
        path: the file; one that is there is written anew.
        thread: of one worker, which hashes and writes; what is submitted after a `write` finds it
            done.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self.path = path
        self._thread = thread
        self._digest = hashlib.sha256()
        self._file = _opened(path)
        # Direct writing asks for memory that begins with a page.
        self._buffers = [mmap.mmap(-1, _BUFFER_BYTES) for _ in range(4)]
        self._pending: list[Future[None]] = []
        self._filled = 0

    def write(self, data: bytes) -> None:
        """Append bytes; they are on their way when a buffer is full.

        Raises:
            OSError: the disk is full.
        """
        rest: bytes | memoryview = data
        while len(rest) >= (room := _BUFFER_BYTES - self._filled):
            rest = memoryview(rest)
            self._append(rest[:room])
            rest = rest[room:]
            self._hand_over()
        self._append(rest)

    def _append(self, data: bytes | memoryview) -> None:
        end = self._filled + len(data)
        self._buffers[0][self._filled : end] = data
        self._filled = end

    def finish(self) -> str:
        """In the thread: write the rest, wait for the disk, close; the file's sha256 in hex.

        Raises:
            OSError: the disk is full.
        """
        try:
            for future in self._pending:
                future.result()
            self._write(self._buffers[0], self._filled)
            os.fsync(self._file)
        finally:
            self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file, whatever of it is written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _hand_over(self) -> None:
        self._pending.append(self._thread.submit(self._write, self._buffers[0], self._filled))
        if len(self._pending) == len(self._buffers):
            self._pending.pop(0).result()
        # The oldest of them is free again.
        self._buffers.append(self._buffers.pop(0))
        self._filled = 0

    def _write(self, buffer: mmap.mmap, count: int) -> None:
        with memoryview(buffer) as whole, whole[:count] as data:
            self._digest.update(data)
            done = 0
            while done < count:
                # Only whole blocks can be written directly: the end of the file, or what is left
                # after the disk took less.
                if (count - done) % mmap.PAGESIZE or done % mmap.PAGESIZE:
                    _write_by_cache(self._file)
                try:
                    done += os.write(self._file, data[done:])
                except OSError as failure:
                    if failure.errno != errno.EINVAL or not _write_by_cache(self._file):
                        raise


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError:
        # Some file systems have no direct writing, and say so here or at the first write; any
        # other reason is met again.
        return os.open(path, flags, 0o666)


def _write_by_cache(file: int) -> bool:
    """Leave direct writing; whether that changes anything."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~_DIRECT)
    return bool(flags & _DIRECT)
