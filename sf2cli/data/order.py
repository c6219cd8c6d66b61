"""The order of an epoch: a function of seed and epoch alone, whoever asks.

Drawn from the raw bits of PCG64, whose stream numpy promises to keep; it makes no such promise
for `Generator.permutation`, and a run must resume on another numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ORDER, _FLIPS = 0, 1


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 ... samples-1, int64 [samples]."""
    bits = np.random.PCG64([seed, epoch, _ORDER])
    return np.argsort(bits.random_raw(samples), kind="stable")


def epoch_flips(samples: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    """Which samples are mirrored this epoch, each with probability one half; bool [samples]."""
    words = np.random.PCG64([seed, epoch, _FLIPS]).random_raw((samples + 63) // 64)
    return np.unpackbits(words.view(np.uint8), count=samples).astype(np.bool_)
