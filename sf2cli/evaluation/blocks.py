"""Similarities of many rows with many, block by block on every core: never held whole."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sf2cli import console

T = TypeVar("T")
Rows = NDArray[np.float32]

_UNIT_BLOCK = 1 << 14


@dataclass(frozen=True)
class Block:
    """Similarities [rows, columns] of rows `top` ... and columns `left` ...; a worker's own,
    overwritten by its next block."""

    scores: Rows
    top: int
    left: int


@dataclass(frozen=True)
class Corner:
    """Where a block starts and how large it is."""

    top: int
    left: int
    height: int
    width: int


def unit_rows(rows: NDArray[Any]) -> Rows:
    """Rows scaled to unit length, float32 [n, d]; a row of zeros stays. The argument is kept."""
    found = np.array(rows, dtype=np.float32)
    to_unit(found)
    return found


def to_unit(rows: Rows) -> None:
    """Scale float32 rows [n, d] to unit length where they are; a row of zeros stays."""
    for start in range(0, len(rows), _UNIT_BLOCK):
        part = rows[start : start + _UNIT_BLOCK]
        norms = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        part /= np.where(norms == 0, 1, norms)[:, None].astype(np.float32)


def corners(height: int, width: int, block: tuple[int, int]) -> list[Corner]:
    """The blocks of a height x width matrix, row by row; the last ones are smaller."""
    rows, columns = block
    return [
        Corner(top, left, min(rows, height - top), min(columns, width - left))
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


def each_block(
    rows: Rows,
    columns: Rows,
    places: Sequence[Corner],
    work: Callable[[Block], T],
    description: str,
) -> Iterator[T]:
    """What `work` makes of each block of `rows @ columns.T`, in the order of `places`.

    As many threads as torch uses, each with a block of its own and single-threaded products, so
    that `work`, too, is spread over the cores; it must not keep the block.

    Args:
        rows: unit rows [n, d].
        columns: unit rows [m, d].
        places: the blocks wanted.
        work: called in a thread; its result should be small.
        description: of the progress display, which is shown for more than one block.
    """
    mine = threading.local()
    area = max((place.height * place.width for place in places), default=0)
    left_side, right_side = torch.from_numpy(rows), torch.from_numpy(columns)

    def compute(place: Corner) -> T:
        if not hasattr(mine, "buffer"):
            mine.buffer = torch.empty(area)
        scores = mine.buffer[: place.height * place.width].view(place.height, place.width)
        torch.mm(
            left_side[place.top : place.top + place.height],
            right_side[place.left : place.left + place.width].T,
            out=scores,
        )
        return work(Block(scores.numpy(), place.top, place.left))

    if len(places) == 1:
        yield compute(places[0])
        return
    with (
        _one_thread_each() as workers,
        ThreadPoolExecutor(workers) as pool,
        console.progress(description, len(places), "blocks") as line,
    ):
        ahead: deque[Future[T]] = deque()
        try:
            for place in places:
                ahead.append(pool.submit(compute, place))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
                    line.advance()
            while ahead:
                yield ahead.popleft().result()
                line.advance()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """How many threads torch has; inside, each product takes one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
