"""The order of an epoch: a function of seed and epoch alone, whoever asks.

Drawn from the raw bits of PCG64, whose stream numpy promises to keep; it makes no such promise
for `Generator.permutation`, and a run must resume on another numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What a stream of random bits is for; 2 and 3 are in `augment`.
_ORDER, _FLIPS, _SPARES, _SHARDS = 0, 1, 4, 5


@dataclass(frozen=True)
class EpochOrder:
    """The samples of an epoch in their order, int64 [samples].

    Where shards come from afar, the order goes through them in `windows`, int64 shard numbers
    each, whose samples end at `ends` in the order; else there are none.
    """

    samples: NDArray[np.int64]
    windows: list[NDArray[np.int64]]
    ends: NDArray[np.int64]

    @classmethod
    def draw(
        cls, shard_samples: NDArray[np.int64], window: int | None, seed: int, epoch: int
    ) -> EpochOrder:
        """The order of samples in shards of these sizes, shuffled `window` shards at a time."""
        if window is None:
            samples = epoch_order(int(shard_samples.sum()), seed, epoch)
            return cls(samples, [], np.zeros(0, dtype=np.int64))
        windows = shard_windows(len(shard_samples), window, seed, epoch)
        ends = np.cumsum([shard_samples[shards].sum() for shards in windows])
        return cls(windowed_order(shard_samples, windows, seed, epoch), windows, ends)

    def window_of(self, position: int) -> int:
        """The number of the window that a position in the order is in."""
        return int(np.searchsorted(self.ends, position, side="right"))


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 ... samples-1, int64 [samples]."""
    bits = np.random.PCG64([seed, epoch, _ORDER])
    return np.argsort(bits.random_raw(samples), kind="stable")


def shard_windows(shards: int, window: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The shards in the order of an epoch, `window` at a time: int64 [window], the last shorter."""
    bits = np.random.PCG64([seed, epoch, _SHARDS])
    order = np.argsort(bits.random_raw(shards), kind="stable")
    return [order[start : start + window] for start in range(0, shards, window)]


def windowed_order(
    shard_samples: NDArray[np.int64], windows: list[NDArray[np.int64]], seed: int, epoch: int
) -> NDArray[np.int64]:
    """A permutation of all samples that goes through the shards window by window.

    Args:
        shard_samples: how many samples each shard has, int64 [shards].
        windows: of `shard_windows`; the samples of one are shuffled among themselves.

    Returns:
        int64 [samples].
    """
    ends = np.cumsum(shard_samples)
    words = np.random.PCG64([seed, epoch, _ORDER]).random_raw(int(ends[-1]))
    parts = []
    for shards in windows:
        spans = [np.arange(ends[s] - shard_samples[s], ends[s]) for s in shards]
        inside = np.concatenate(spans)
        parts.append(inside[np.argsort(words[inside], kind="stable")])
    return np.concatenate(parts)


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
