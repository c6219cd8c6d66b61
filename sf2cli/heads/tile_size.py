"""How many identities a head works on at a time: arithmetic that a plan shares."""

from __future__ import annotations

import os

_LEAST, _MOST = 64, 16384
# Measured with two threads: smaller tiles wait for each other more than larger ones miss cache.
CPU_BYTES, OTHER_BYTES = 8 << 20, 64 << 20


def tile_size_for(row_bytes: int, cosine_bytes: int, on_cpu: bool) -> int:
    """How many rows keep a tile's matrices in cache, a power of two.

    Args:
        row_bytes: of a row's weight, momentum and gradient together.
        cosine_bytes: of a row's cosines and their gradients, over the whole batch.
        on_cpu: a CPU's second-level cache counts; elsewhere a tile has OTHER_BYTES.
    """
    budget = max(CPU_BYTES, 4 * _second_level_cache()) if on_cpu else OTHER_BYTES
    fitting = max(1, budget // (row_bytes + cosine_bytes))
    return min(max(1 << (fitting.bit_length() - 1), _LEAST), _MOST)


def _second_level_cache() -> int:
    try:
        return max(0, os.sysconf("SC_LEVEL2_CACHE_SIZE"))
    except (ValueError, OSError):
        return 0
