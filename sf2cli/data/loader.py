"""Batches for training.

The order of an epoch is global: one permutation from (seed, epoch), cut into global batches, each
cut into one contiguous slice a rank. Ranks and workers change who reads a sample, never which
samples make a batch, so a run may resume anywhere in an epoch on another number of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sf2cli.data.augment import Augment
from sf2cli.data.bad_samples import BadSamples, Gather, OnAny
from sf2cli.data.degrade import Degrade
from sf2cli.data.fetch import BatchFetcher, Changes, Request
from sf2cli.data.label_noise import noisy_labels
from sf2cli.data.order import EpochOrder, epoch_flips
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error

_UNCHANGED, _UNHARMED = Augment(), Degrade()


def _alone(value: object) -> list[object]:
    return [value]


def _here(so: bool) -> bool:
    return so


class TrainLoader:
    """The training batches of one rank.

    Each epoch leaves out the remainder that fills no global batch: other samples every time.
    The row of a damaged sample holds another one, drawn by (seed, epoch, sample).

    Args:
        packed: the set.
        batch_size: samples a rank and step.
        rank: this rank, 0 ... world_size-1.
        world_size: number of ranks.
        seed: with the epoch, decides order and mirroring.
        image_size: edge in pixels.
        channels: 3 for RGB, 1 for grey.
        flip: mirror half of the samples left to right.
        limits: how far to move, zoom and light them.
        chances: how often to make them worse.
        workers: processes to decode in; 0 decodes in this one.
        max_bad: how many damaged samples may be met in all.
        label_noise: share of the samples whose label is drawn anew, once for the whole run.
        gather: brings the ranks' damaged samples together, after a batch that has new ones.
        on_any: tells every rank that a batch of one has; asked after each where any may be skipped.

    Attributes:
        wrong_labels: the share of the samples whose label is not their own, by `label_noise`.

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
        chances: Degrade = _UNHARMED,
        max_bad: int = 0,
        label_noise: float = 0.0,
        gather: Gather = _alone,
        on_any: OnAny = _here,
    ) -> None:
        self._global_batch = batch_size * world_size
        if len(packed) < self._global_batch:
            raise Sf2Error(
                f"{packed.title} has {len(packed)} images, fewer than one global batch"
                f" of {self._global_batch} ({world_size} rank(s) x {batch_size})",
                f"Lower batch_size to {len(packed)} or less, or pack more images.",
            )
        self._packed = packed
        self._batch = batch_size
        self._rank = rank
        self._seed = seed
        self._flip = flip
        self._bad = BadSamples(max_bad)
        self._may_skip = max_bad > 0
        self._gather = gather
        self._on_any = on_any
        changes = Changes(seed, limits, chances)
        labels = None
        if label_noise:
            identities = packed.manifest.num_identities
            labels = noisy_labels(packed.labels, identities, label_noise, seed)
        self.wrong_labels = 0.0 if labels is None else float((labels != packed.labels).mean())
        self._fetcher = BatchFetcher(packed, image_size, channels, workers, changes, labels)
        # Of the epoch asked for last.
        self._ordered: tuple[int, EpochOrder] | None = None

    @property
    def batches_per_epoch(self) -> int:
        return len(self._packed) // self._global_batch

    @property
    def bad_samples(self) -> Mapping[int, str]:
        """The damaged samples met so far on any rank, and what is wrong with each."""
        return self._bad.found

    def remember(self, bad_samples: Mapping[int, str]) -> None:
        """Count what the run met before it was resumed.

        Raises:
            Sf2Error: that is more than `max_bad`.
        """
        self._bad.remember(bad_samples)

    def close(self) -> None:
        """End the workers; no batch can be asked for after that."""
        self._fetcher.close()

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from `start_batch` on; those before are not read.

        With `max_bad` each batch is collective: every rank has to ask for it.

        Yields:
            images uint8 [batch_size, channels, H, W] in channels-last memory, and class ids int64
            [batch_size].

        Raises:
            Sf2Error: more than `max_bad` samples are damaged, a shard cannot be read, or a worker
                died.
        """
        flips = np.zeros(len(self._packed), dtype=np.bool_)
        if self._flip:
            flips = epoch_flips(len(self._packed), self._seed, epoch)
        for batch in self._fetcher.fetch(self._requests(flips, epoch, start_batch)):
            self._bad.add(batch.bad)
            if self._may_skip and self._on_any(self._bad.any_new):
                self._bad.join(self._gather)
            yield batch.images, batch.labels
        self._bad.tell(epoch)

    def keys(self, epoch: int, batch: int) -> list[str]:
        """What this rank's samples of a batch were called before packing, in its rows' order."""
        return [self._packed.source(int(i)) for i in self._indices(epoch, batch)]

    def _requests(
        self, flips: NDArray[np.bool_], epoch: int, start_batch: int
    ) -> Iterator[Request]:
        announced = 0
        for batch in range(start_batch, self.batches_per_epoch):
            order = self._order(epoch)
            indices = self._indices(epoch, batch)
            announced = self._announce(order, batch, announced)
            yield Request(indices, flips[indices], epoch)

    def _announce(self, order: EpochOrder, batch: int, announced: int) -> int:
        """Have the window after this batch's fetched; how many windows have been announced."""
        following = order.window_of(batch * self._global_batch) + 1
        if announced < following < len(order.windows):
            self._packed.files.expect(order.windows[following].tolist())
        return max(announced, following)

    def _indices(self, epoch: int, batch: int) -> NDArray[np.int64]:
        first = batch * self._global_batch + self._rank * self._batch
        return self._order(epoch).samples[first : first + self._batch]

    def _order(self, epoch: int) -> EpochOrder:
        if self._ordered is None or self._ordered[0] != epoch:
            packed, window = self._packed, self._packed.window
            counts = np.array([shard.samples for shard in packed.manifest.shards])
            self._ordered = epoch, EpochOrder.draw(counts, window, self._seed, epoch)
        return self._ordered[1]
