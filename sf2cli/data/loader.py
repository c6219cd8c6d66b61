"""Batches for training.

The order of an epoch is global: one permutation from (seed, epoch), cut into global batches, each
cut into one contiguous slice a rank. Ranks and workers change who reads a sample, never which
samples make a batch, so a run may resume anywhere in an epoch on another number of either.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sf2cli.data.augment import Augment
from sf2cli.data.fetch import BatchFetcher, Request
from sf2cli.data.order import epoch_flips, epoch_order
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error

_UNCHANGED = Augment()


class TrainLoader:
    """The training batches of one rank.

    Each epoch leaves out the remainder that fills no global batch: other samples every time.

    Args:
        packed: the set.
        batch_size: samples a rank and step.
        rank: this rank, 0 ... world_size-1.
        world_size: number of ranks.
        seed: with the epoch, decides order and mirroring.
        image_size: edge in pixels.
        channels: 3 for RGB, 1 for grey.
        flip: mirror half of the samples left to right.
        limits: how far to change them otherwise.
        workers: processes to decode in; 0 decodes in this one.

    Raises:
        Sf2Error: the set is smaller than one global batch.
    """

    def __init__(
        self,
        packed: PackedSet,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        image_size: int,
        channels: int,
        flip: bool,
        workers: int,
        limits: Augment = _UNCHANGED,
    ) -> None:
        self._global_batch = batch_size * world_size
        if len(packed) < self._global_batch:
            raise Sf2Error(
                f"packed set {packed.folder} has {len(packed)} images, fewer than one global batch"
                f" of {self._global_batch} ({world_size} rank(s) x {batch_size})",
                f"Lower batch_size to {len(packed)} or less, or pack more images.",
            )
        self._packed = packed
        self._samples = len(packed)
        self._batch = batch_size
        self._rank = rank
        self._seed = seed
        self._flip = flip
        self._fetcher = BatchFetcher(packed, image_size, channels, workers, limits, seed)

    @property
    def batches_per_epoch(self) -> int:
        return self._samples // self._global_batch

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from `start_batch` on; those before are not read.

        Yields:
            images uint8 [batch_size, channels, H, W] and class ids int64 [batch_size].

        Raises:
            Sf2Error: an image cannot be read, or a worker died.
        """
        order = epoch_order(self._samples, self._seed, epoch)
        if self._flip:
            flips = epoch_flips(self._samples, self._seed, epoch)
        else:
            flips = np.zeros(self._samples, dtype=np.bool_)
        yield from self._fetcher.fetch(self._requests(order, flips, epoch, start_batch))

    def keys(self, epoch: int, batch: int) -> list[str]:
        """What this rank's samples of a batch were called before packing, in its rows' order."""
        first = batch * self._global_batch + self._rank * self._batch
        order = epoch_order(self._samples, self._seed, epoch)
        return [self._packed.source(int(i)) for i in order[first : first + self._batch]]

    def _requests(
        self, order: NDArray[np.int64], flips: NDArray[np.bool_], epoch: int, start_batch: int
    ) -> Iterator[Request]:
        for k in range(start_batch, self.batches_per_epoch):
            first = k * self._global_batch + self._rank * self._batch
            indices = order[first : first + self._batch]
            yield Request(indices, flips[indices], epoch)
