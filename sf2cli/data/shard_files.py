"""Reading byte ranges of many files with few of them open."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A set of a terabyte has thousands of shards; the usual limit is 1024 open files a process.
MAX_OPEN = 128


class ShardFiles:
    """Random access into files; safe to use on both sides of a fork, in one thread a process."""

    def __init__(self, paths: Sequence[Path], max_open: int = MAX_OPEN) -> None:
        self._paths = paths
        self._max_open = max_open
        self._open: OrderedDict[int, int] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._paths, self._max_open)

    def read(self, file: int, offset: int, size: int) -> bytes:
        """Bytes `offset` ... `offset + size` of the file with that number; fewer at its end.

        Raises:
            OSError: it cannot be opened or read.
        """
        return os.pread(self._descriptor(file), size, offset)

    def expect(self, files: Sequence[int]) -> None:
        """Be told which files are read soon; those on a disk need no preparation."""

    def _descriptor(self, file: int) -> int:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        if len(self._open) >= self._max_open:
            os.close(self._open.popitem(last=False)[1])
        self._open[file] = self._opened(file)
        return self._open[file]

    def _opened(self, file: int) -> int:
        return os.open(self._paths[file], os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
