"""Saving while training goes on: a copy in host memory, and a thread that writes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import torch.distributed as dist

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.heads.ranks import Ranks
from sf2cli.recipe import CheckpointRecipe
from sf2cli.training.checkpoint_folder import whole_checkpoints
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.metrics import MetricsFile
from sf2cli.training.snapshot import Written, take_snapshot, write_checkpoint

# A rank may wait for another one's tens of gigabytes; a dead one is noticed at once.
_TIMEOUT = timedelta(hours=2)


class Saver:
    """Saves a run's checkpoints; all ranks have one and call it alike, as a context.

    With `background`, `save` returns when the run is copied. At most one checkpoint is on its way;
    the next waits for it. One that cannot be written is reported and the run goes on, for the disk
    may have room again by the next. Only the last one has to succeed.

    Args:
        folder: of the checkpoints.
        manifest_sha256: of the packed set.
        identities: its names, in the order of their ids.
        metrics: gets the time and size of each checkpoint; the first rank's, None elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointRecipe,
        manifest_sha256: str,
        identities: list[str],
        metrics: MetricsFile | None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._manifest_sha256 = manifest_sha256
        self._identities = identities
        self._metrics = metrics
        # The thread's collectives must not mix with training's.
        self._ranks = Ranks.of(dist.new_group(backend="gloo", timeout=_TIMEOUT))
        self._writing: _Writing | None = None

    def save(
        self, engine: TrainingEngine, step: int, bad_samples: Mapping[int, str], *, last: bool
    ) -> None:
        """Save the run as it stands after `step`; collective.

        Args:
            bad_samples: the damaged samples that the run has met so far, on any rank.
            last: nothing is left to do beside it: it is not copied, and it has to succeed.

        Raises:
            Sf2Error: a weight is not finite, or the last one cannot be written; on every rank.
        """
        began = time.perf_counter()
        self._settle()
        background = self._settings.background and not last
        snapshot = take_snapshot(
            engine, step, self._manifest_sha256, self._identities, bad_samples, copy=background
        )

        def write() -> Written:
            settle = self._metrics.sync if self._metrics is not None else None
            keep = self._settings.keep_last
            return write_checkpoint(self._folder, snapshot, self._ranks, keep, settle)

        self._writing = _Writing(write, step)
        if background:
            self._writing.start()
        else:
            self._writing.run()
        self._writing.waited = time.perf_counter() - began
        if last:
            failure = self._settle()
            if failure is not None:
                raise failure

    def poll(self) -> None:
        """Report a checkpoint that has been written since the last call, or could not be."""
        if self._writing is not None and not self._writing.is_alive():
            self._settle()

    def _settle(self) -> Sf2Error | None:
        """Wait for the checkpoint on its way and report it; why it failed, if it did."""
        writing, self._writing = self._writing, None
        if writing is None:
            return None
        outcome = writing.wait()
        if isinstance(outcome, Sf2Error):
            none = not whole_checkpoints(self._folder)
            rest = "there is none before it" if none else "the ones before it are whole"
            console.warn(f"{outcome.message}; {rest}")
            return outcome
        console.info(
            f"checkpoint: step {writing.step}, {outcome.bytes / 1e6:.1f} MB in"
            f" {outcome.seconds:.2f} s, training waited {writing.waited:.2f} s"
        )
        if self._metrics is not None:
            values = {
                "checkpoint_bytes": outcome.bytes,
                "checkpoint_s": outcome.seconds,
                "checkpoint_wait_s": writing.waited,
            }
            self._metrics.log(writing.step, values)
        return None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        # Where training itself failed, as with a loss that is no number, what is on its way is
        # worth waiting for. Where a rank is lost it will not come.
        if kind is not None and issubclass(kind, Sf2Error):
            self._settle()


class _Writing(threading.Thread):
    """A checkpoint on its way to the disk. `waited`: the seconds that it held training up."""

    def __init__(self, write: Callable[[], Written], step: int) -> None:
        # The process may end without it.
        super().__init__(name=f"checkpoint-{step}", daemon=True)
        self.step = step
        self.waited = 0.0
        self._write = write
        self._outcome: Written | Exception | None = None

    def run(self) -> None:
        try:
            self._outcome = self._write()
        except Exception as failure:
            self._outcome = failure

    def wait(self) -> Written | Sf2Error:
        """What was written, or why it could not be; a lost rank's error is raised."""
        if self.is_alive():
            self.join()
        assert self._outcome is not None
        if isinstance(self._outcome, Exception) and not isinstance(self._outcome, Sf2Error):
            raise self._outcome
        return self._outcome
