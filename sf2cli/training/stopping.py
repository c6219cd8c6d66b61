"""Stopping when told to, between two steps and on all ranks alike."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from sf2cli.errors import Sf2Error
from sf2cli.training.world import World

# Ctrl-C; what kill, SLURM and every launcher send; what `sbatch --signal=USR1@120` sends ahead.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StoppedError(Sf2Error):
    """A run that was told to stop and did; exit status 128 + signal, as a shell has it."""

    def __init__(self, number: int, step: int, total: int) -> None:
        name = signal.Signals(number).name
        super().__init__(
            f"stopped by {name} after step {step} of {total}, which is saved",
            "Go on with --resume.",
        )
        self.status = 128 + number


class StopRequest:
    """Notes, while it is entered, that this process was told to stop, in place of ending it.

    Ctrl-C after that does end it.
    """

    def __init__(self, world: World) -> None:
        self._device = world.device
        self._number = 0

    def agreed(self) -> int:
        """The signal that stops the run, or 0: every rank gets the same answer; collective."""
        number = torch.tensor(self._number, device=self._device)
        if dist.get_world_size() > 1:
            # Launchers signal all ranks, schedulers some: one suffices.
            dist.all_reduce(number, dist.ReduceOp.MAX)
        return int(number.item())

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._number and number == signal.SIGINT:
            first = signal.Signals(self._number)
            ending = "a second Ctrl-C" if first == signal.SIGINT else f"Ctrl-C after {first.name}"
            raise KeyboardInterrupt(
                f"ended at {ending}, without waiting for the checkpoint\n"
                "  --resume goes on from the last whole one."
            )
        self._number = self._number or number

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
