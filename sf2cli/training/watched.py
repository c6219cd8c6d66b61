"""Watching a run: every step measured, checked and written down, and validated when it is due."""

from __future__ import annotations

from collections.abc import Container
from contextlib import ExitStack
from dataclasses import dataclass

from sf2cli import console
from sf2cli.data.loader import TrainLoader
from sf2cli.training.collapse import REMEDIES, CollapseWatch
from sf2cli.training.curves import COLLAPSED, Metrics, collapsed_at
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.gone_wrong import stop_if_not_finite
from sf2cli.training.meter import Meter
from sf2cli.training.probe import Probe
from sf2cli.training.restore import Settings
from sf2cli.training.run_folder import RunFolder
from sf2cli.training.sinks import Sink, tensorboard, wandb
from sf2cli.training.validation import Validator, open_sets, trained_on


@dataclass(frozen=True)
class Step:
    """What a step left: its number from 1, its loss, and seconds in all and waiting for data."""

    number: int
    loss: float
    lr: float
    seconds: float
    waited: float


class Watched:
    """What a run tells of itself; on every rank, for measuring is collective."""

    def __init__(
        self, engine: TrainingEngine, settings: Settings, folder: RunFolder, loader: TrainLoader
    ) -> None:
        recipe = settings.recipe
        self._engine = engine
        self._recipe = recipe
        self._folder = folder
        self._loader = loader
        self._probe = Probe(engine)
        self._meter = Meter(engine, self._probe)
        self._collapse = CollapseWatch(recipe, engine.head.num_classes)
        self._sinks: list[Sink] = []
        self._validator = None
        if recipe.validation:
            sets, device = open_sets(recipe.validation), engine.head.weight.device
            for path in trained_on(recipe.validation, settings.manifest_sha256):
                console.warn(
                    f"validation.sets: {path} is the training set itself; it does not tell how"
                    " well the model does on people it has not seen"
                )
            self._validator = Validator(
                settings, recipe.validation, sets, engine.head.ranks, folder.best, device
            )

    def open(self, metrics: Sink, start: int, changed: Container[str], held: ExitStack) -> None:
        """Write from here on to `metrics` and to what the recipe names; on the first rank.

        Args:
            start: the step the run goes on from.
            changed: the fields of the recipe that are other ones from here on.
            held: closes them.
        """
        self._sinks = [metrics]
        watch, folder = self._recipe.watch, self._folder.path
        if watch.tensorboard:
            self._sinks.append(held.enter_context(tensorboard(folder / "tensorboard", start)))
        if watch.wandb:
            self._sinks.append(
                held.enter_context(wandb(watch.wandb, folder / "wandb", self._recipe))
            )
        self._go_on_watching(start, changed)

    def _go_on_watching(self, start: int, changed: Container[str]) -> None:
        before = Metrics(self._folder.metrics)
        before.read()
        if COLLAPSED not in before.curves:
            return
        if any(field in changed for field in REMEDIES):
            self._collapse.begin_anew(start)
            self._log(start, {COLLAPSED: 0.0})
        elif collapsed_at(before.curves) is not None:
            self._collapse.rest()
        else:
            self._collapse.begin_anew(int(before.curves[COLLAPSED][-1][0]))

    def begin(self) -> None:
        """Before a step."""
        self._probe.begin()

    def end(self, step: Step, total: int) -> None:
        """After a step of `total`; collective.

        Raises:
            Sf2Error: loss or gradient is not finite, a number cannot be written, or validation
                cannot be done.
        """
        batch = divmod(step.number - 1, self._loader.batches_per_epoch)
        stop_if_not_finite(
            self._engine.head.ranks,
            step=step.number,
            lr=step.lr,
            loss=step.loss,
            # Where fp16 leaves a step out the gradient is not finite, and nothing is wrong.
            gradient_norm=None if self._engine.left_out else self._probe.gradient_norm(),
            skipped=self._engine.skipped,
            unsound=self._probe.unsound_samples,
            keys=lambda: self._loader.keys(*batch),
            checkpoints=self._folder.checkpoints,
        )
        measured = self._meter.read()
        self._log(
            step.number,
            {
                "loss": step.loss,
                "lr": step.lr,
                "images_per_s": self._recipe.batch_size / step.seconds,
                "data_wait": step.waited / step.seconds,
                **measured,
            },
        )
        told = self._collapse.see(step.number, step.loss, measured, self._engine.head.hp)
        if told is not None:
            console.warn(told)
            self._log(step.number, {COLLAPSED: 1.0})
        if self._validator and self._validator.is_due(step.number, total):
            self._log(step.number, self._validator.run(self._engine, step.number))

    def _log(self, step: int, values: dict[str, float]) -> None:
        for sink in self._sinks:
            sink.log(step, values)
