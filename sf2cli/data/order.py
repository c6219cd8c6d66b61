"""The order of an epoch: a function of seed and epoch alone, whoever asks.

Drawn from the raw bits of PCG64, whose stream numpy promises to keep; it makes no such promise
for `Generator.permutation`, and a run must resume on another numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# What a stream of random bits is for; 2 and 3 are in `augment`.
_ORDER, _FLIPS, _SPARES = 0, 1, 4


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 ... samples-1, int64 [samples]."""
    bits = np.random.PCG64([seed, epoch, _ORDER])
    return np.argsort(bits.random_raw(samples), kind="stable")


def epoch_flips(samples: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    """Which samples are mirrored this epoch, each with probability one half; bool [samples]."""
    words = np.random.PCG64([seed, epoch, _FLIPS]).random_raw((samples + 63) // 64)
    return np.unpackbits(words.view(np.uint8), count=samples).astype(np.bool_)


def spares(samples: int, seed: int, epoch: int, sample: int, count: int) -> NDArray[np.int64]:
    """Samples to read in place of one that is damaged, to be tried in order; int64 [count].

    They hang on the damaged sample alone, so that every rank and worker would take the same.
    """
    words = np.random.PCG64([seed, epoch, _SPARES, sample]).random_raw(count)
    drawn: NDArray[np.int64] = (words % np.uint64(samples)).astype(np.int64)
    return drawn
