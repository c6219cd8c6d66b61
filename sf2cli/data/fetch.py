"""Batches of decoded images, read in this process or by workers; the result is the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sf2cli.data.augment import Augment, augment
from sf2cli.data.degrade import Degrade, degrade
from sf2cli.data.order import spares
from sf2cli.data.packed import BadSampleError, PackedSet
from sf2cli.errors import Sf2Error

# So many damaged samples in a row, drawn at random, mean that the whole set is.
_SPARES = 100
# One that is killed in the midst of a read ends when the read does.
_KILLED_S = 1.0


@dataclass(frozen=True)
class Request:
    """Samples to read in an epoch: indices int64 [B], and which of them to mirror, bool [B]."""

    indices: NDArray[np.int64]
    flips: NDArray[np.bool_]
    epoch: int


@dataclass(frozen=True)
class Changes:
    """What is done to the images: a seed, how far they are changed, and how often made worse."""

    seed: int
    limits: Augment
    chances: Degrade

    def apply(self, pixels: NDArray[np.uint8], epoch: int, sample: int) -> None:
        """Change uint8 [S, S, C] in place."""
        if self.limits:
            pixels[:] = augment(pixels, self.limits, self.seed, epoch, sample)
        if self.chances:
            degrade(pixels, self.chances, self.seed, epoch, sample)


class Batch(NamedTuple):
    """Images uint8 [B, C, H, W] in channels-last memory, class ids int64 [B].

    `bad` are the samples that could not be read, and why: others stand in their rows.
    """

    images: Tensor
    labels: Tensor
    bad: dict[int, str]


class BatchFetcher:
    """Answers requests in their order.

    Args:
        packed: the set to read.
        image_size: edge in pixels.
        channels: 3 for RGB, 1 for grey.
        workers: processes to decode in, kept between calls; 0 decodes in this one.
        changes: to the images; its seed also draws what is read in place of damaged samples.
        labels: class ids of all samples in place of the set's own, int64 [samples].
    """

    def __init__(
        self,
        packed: PackedSet,
        image_size: int,
        channels: int,
        workers: int,
        changes: Changes,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        self._reader = _Reader(packed, image_size, channels, changes, labels)
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

    def close(self) -> None:
        """End the workers, and wait for them.

        Left to the interpreter's exit they would be sent SIGTERM, which they outlive, and be waited
        for without end. One that hangs, as on a disk that does not answer, is killed.
        """
        loader, self._loader = self._loader, None
        if loader is None or loader._iterator is None:
            return
        workers = loader._iterator._workers  # type: ignore[attr-defined]
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
        for worker in workers:
            worker.kill()
            worker.join(_KILLED_S)

    def fetch(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """A batch for each request.

        Raises:
            Sf2Error: a shard cannot be read, nearly all samples are damaged, or a worker died.
        """
        if self._loader is None:
            for request in requests:
                yield _opened(self._reader[request])
            return
        self._requests.items = requests
        try:
            for answer in _started(self._loader):
                yield _opened(answer)
        except RuntimeError as failure:
            if "DataLoader worker" not in str(failure):
                raise
            raise Sf2Error(
                f"a data-loading process died: {str(failure).splitlines()[0]}",
                "Often memory or /dev/shm ran out: use fewer workers, or 0.",
            ) from None


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's pass, which tells of a worker's end only when it is asked for a batch.

    Torch would raise it from a signal handler, wherever in the training this process happens to
    be. It also looks every 5 s while it waits, which is enough.
    """
    before = signal.getsignal(signal.SIGCHLD)
    answers = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    return answers


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
        self,
        packed: PackedSet,
        image_size: int,
        channels: int,
        changes: Changes,
        labels: NDArray[np.int64] | None,
    ) -> None:
        self._packed = packed
        self._labels = labels
        self._changes = changes
        self._shape = (image_size, image_size, channels)

    def __getitem__(self, request: Request) -> Batch | Sf2Error:
        pixels = np.empty((len(request.indices), *self._shape), dtype=np.uint8)
        labels = np.empty(len(request.indices), dtype=np.int64)
        bad: dict[int, str] = {}
        try:
            for row, i in enumerate(request.indices.tolist()):
                read = self._fill(pixels[row], i, request.epoch, bad)
                own = self._labels
                labels[row] = self._packed.label(read) if own is None else own[read]
        except Sf2Error as failure:
            return failure
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        for row in np.flatnonzero(request.flips).tolist():
            # Of four dimensions: torch mirrors those five times as fast.
            images[row : row + 1] = images[row : row + 1].flip(-1)
        return Batch(images, torch.from_numpy(labels), bad)

    def _fill(self, out: NDArray[np.uint8], i: int, epoch: int, bad: dict[int, str]) -> int:
        """Read sample `i` or, where it is damaged, the first good spare; which one it was."""
        try:
            self._fill_with(out, i, epoch)
            return i
        except BadSampleError as failure:
            bad[i] = failure.message
        drawn = spares(len(self._packed), self._changes.seed, epoch, i, _SPARES)
        for spare in drawn.tolist():
            try:
                self._fill_with(out, spare, epoch)
                return int(spare)
            except BadSampleError:
                # It is counted when its own turn comes.
                continue
        raise Sf2Error(
            f"{bad[i]}; nor can {_SPARES} others be read, drawn at random in its place",
            "Copy the set again, or pack it again.",
        )

    def _fill_with(self, out: NDArray[np.uint8], i: int, epoch: int) -> None:
        self._packed.decode_into(i, out)
        self._changes.apply(out, epoch, i)


def _unchanged(answer: Any) -> Any:
    return answer


def _opened(answer: Batch | Sf2Error) -> Batch:
    if isinstance(answer, Sf2Error):
        # Raising the answer itself ties it to the frames that hold it; the workers would then be
        # found by the garbage collector with their pipes closed, and be waited for 5 s each.
        raise Sf2Error(answer.message, answer.remedy)
    return answer
