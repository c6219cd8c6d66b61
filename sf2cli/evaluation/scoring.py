"""Cosine similarity of pairs of rows, whatever the rows are: embeddings or pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.evaluation.blocks import Block, corners, each_block

Rows = NDArray[Any]
Scores = NDArray[np.floating]

_LISTED_BLOCK = 1 << 24
_BLOCK = 512
_DENSE_BLOCK = (2048, 4096)


def listed_cosines(
    rows: Rows, first: NDArray[np.integer], second: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The cosines of chosen pairs, in float64 throughout.

    Args:
        rows: [n, d], of any real type; a row of zeros has cosine 0 with everything.
        first: row numbers [pairs].
        second: row numbers [pairs].

    Returns:
        [pairs], within [-1, 1].
    """
    cosines = np.empty(len(first))
    step = max(1, _LISTED_BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        left, right = (_unit(rows[side[part]], np.float64) for side in (first, second))
        cosines[part] = np.einsum("pd,pd->p", left, right)
    return cosines.clip(-1, 1)


def dense_cosines(
    rows: NDArray[np.float32],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    description: str,
) -> NDArray[np.float32]:
    """The cosines of many pairs of few rows, in float32: blocks of all of `first` against all of
    `second`, of which the pairs are picked. Faster than `listed_cosines` from about one pair in
    fifty on.

    Args:
        rows: unit rows [n, d].
        first: row numbers [pairs].
        second: row numbers [pairs].
        description: of the progress display.

    Returns:
        [pairs], within [-1, 1].
    """
    left, i = np.unique(first, return_inverse=True)
    right, j = np.unique(second, return_inverse=True)
    places = corners(len(left), len(right), _DENSE_BLOCK)
    height, width = _DENSE_BLOCK
    across = -(-len(right) // width)
    cell = i // height * across + j // width
    # Numbers of one or two bytes are sorted in linear time.
    order = np.argsort(cell.astype(np.min_scalar_type(len(places))), kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=len(places)))
    cosines = np.empty(len(first), np.float32)

    def pick(block: Block) -> None:
        k = block.top // height * across + block.left // width
        mine = order[ends[k - 1] if k else 0 : ends[k]]
        cosines[mine] = block.scores[i[mine] - block.top, j[mine] - block.left]

    for _ in each_block(rows[left], rows[right], places, pick, description):
        pass
    return cosines.clip(-1, 1, out=cosines)


def all_cosines(rows: Rows, description: str) -> NDArray[np.float32]:
    """The cosines of all pairs i < j in the order of numpy.triu_indices(n, 1), in float32.

    The n x n matrix is never held, nor a float copy of all rows.

    Args:
        rows: [n, d], of any real type; a row of zeros has cosine 0 with everything.
        description: of the progress display, which is shown where there is more than one block.

    Returns:
        [n (n - 1) / 2], within [-1, 1].
    """
    n = len(rows)
    cosines = np.empty(n * (n - 1) // 2, np.float32)
    # Pair (i, j) stands at offset[i] + j.
    numbers = np.arange(n)
    offset = numbers * (2 * n - numbers - 1) // 2 - numbers - 1
    for top, left in _blocks(n, description):
        block = _unit(rows[top : top + _BLOCK]) @ _unit(rows[left : left + _BLOCK]).T
        for i, row in enumerate(block, top):
            j = max(left, i + 1)
            cosines[offset[i] + j : offset[i] + left + len(row)] = row[j - left :]
    return cosines.clip(-1, 1, out=cosines)


def _blocks(n: int, description: str) -> Iterator[tuple[int, int]]:
    """First row and first column of the blocks on and above the diagonal."""
    starts = range(0, n, _BLOCK)
    blocks = [(top, left) for top in starts for left in starts if left >= top]
    if len(blocks) == 1:
        yield blocks[0]
        return
    with console.progress(description, len(blocks), "blocks") as line:
        for block in blocks:
            yield block
            line.advance()


def _unit(rows: Rows, dtype: Any = np.float32) -> NDArray[Any]:
    floats = rows.astype(dtype)
    norms = np.linalg.norm(floats, axis=1, keepdims=True)
    return floats / np.where(norms == 0, 1, norms)
