"""Batches of decoded images, read in this process or by workers; the result is the same."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sf2cli.data.augment import Augment, augment
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error


@dataclass(frozen=True)
class Request:
    """Samples to read in an epoch: indices int64 [B], and which of them to mirror, bool [B]."""

    indices: NDArray[np.int64]
    flips: NDArray[np.bool_]
    epoch: int


class BatchFetcher:
    """Answers requests in their order.

    Args:
        packed: the set to read.
        image_size: edge in pixels.
        channels: 3 for RGB, 1 for grey.
        workers: processes to decode in, kept between calls; 0 decodes in this one.
        limits: how far images are changed.
        seed: of the changes.
    """

    def __init__(
        self,
        packed: PackedSet,
        image_size: int,
        channels: int,
        workers: int,
        limits: Augment,
        seed: int,
    ) -> None:
        self._reader = _Reader(packed, image_size, channels, limits, seed)
        self._requests = _Requests()
        self._loader: DataLoader[Any] | None = None
        if workers:
            self._loader = DataLoader(
                self._reader,
                sampler=self._requests,
                batch_size=None,
                collate_fn=_unchanged,
                num_workers=workers,
                persistent_workers=True,
                worker_init_fn=_outlive_signals,
                # Its own generator: the default one would draw from the training's random stream.
                generator=torch.Generator(),
            )

    def fetch(self, requests: Iterable[Request]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images uint8 [B, C, H, W] and class ids int64 [B] for each request.

        Raises:
            Sf2Error: an image cannot be read, or a worker died.
        """
        if self._loader is None:
            for request in requests:
                yield _opened(self._reader[request])
            return
        self._requests.items = requests
        try:
            for answer in self._loader:
                yield _opened(answer)
        except RuntimeError as failure:
            if "DataLoader worker" not in str(failure):
                raise
            raise Sf2Error(
                f"a data-loading process died: {str(failure).splitlines()[0]}",
                "Often memory or /dev/shm ran out: use fewer workers, or 0.",
            ) from None


def _outlive_signals(_: int) -> None:
    """A terminal and SLURM signal every process, and a run that stops still has a step to take."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _Requests:
    """A sampler whose content is set anew for each pass, so that workers outlive an epoch."""

    def __init__(self) -> None:
        self.items: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.items)


class _Reader(Dataset[Any]):
    """From a request to tensors; an error is an answer too, lest torch adds its traceback to it."""

    def __init__(
        self, packed: PackedSet, image_size: int, channels: int, limits: Augment, seed: int
    ) -> None:
        self._packed = packed
        self._limits = limits
        self._seed = seed
        self._image_size = image_size
        self._channels = channels

    def __getitem__(self, request: Request) -> tuple[Tensor, Tensor] | Sf2Error:
        size, channels = self._image_size, self._channels
        images = np.empty((len(request.indices), channels, size, size), dtype=np.uint8)
        labels = np.empty(len(request.indices), dtype=np.int64)
        try:
            for row, (i, flip) in enumerate(
                zip(request.indices.tolist(), request.flips.tolist(), strict=True)
            ):
                pixels = self._packed.decode(i, size, channels)
                if self._limits:
                    pixels = augment(pixels, self._limits, self._seed, request.epoch, i)
                images[row] = (pixels[:, ::-1] if flip else pixels).transpose(2, 0, 1)
                labels[row] = self._packed.label(i)
        except Sf2Error as failure:
            return failure
        return torch.from_numpy(images), torch.from_numpy(labels)


def _unchanged(answer: Any) -> Any:
    return answer


def _opened(answer: tuple[Tensor, Tensor] | Sf2Error) -> tuple[Tensor, Tensor]:
    if isinstance(answer, Sf2Error):
        # Raising the answer itself ties it to the frames that hold it; the workers would then be
        # found by the garbage collector with their pipes closed, and be waited for 5 s each.
        raise Sf2Error(answer.message, answer.remedy)
    return answer
