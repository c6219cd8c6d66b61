"""A training run from its first step to the finished model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sf2cli import console
from sf2cli.data.augment import Augment
from sf2cli.data.degrade import Degrade
from sf2cli.data.loader import TrainLoader
from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256
from sf2cli.heads.initial import derived_seed
from sf2cli.heads.ranks import Ranks
from sf2cli.recipe import Recipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.first_lines import crowding, tell_origin, tell_run
from sf2cli.training.graft import grafted_start
from sf2cli.training.metrics import MetricsFile
from sf2cli.training.model_folder import write_model
from sf2cli.training.page import write_page
from sf2cli.training.recipe_changes import recipe_changes
from sf2cli.training.restore import Settings, Start, new_start, restored_start
from sf2cli.training.run_folder import RunFolder
from sf2cli.training.saver import Saver
from sf2cli.training.schedule import lr_factor
from sf2cli.training.stopping import StoppedError, StopRequest
from sf2cli.training.watched import Step, Watched
from sf2cli.training.world import World

Batches = Iterator[tuple[Tensor, Tensor]]


class Run:
    """One run in its folder.

    Args:
        accept_changed_shards: go on although `packed` is not what it was, its identities apart.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        ds_config: dict[str, Any],
        packed: PackedSet,
        *,
        accept_changed_shards: bool = False,
    ) -> None:
        self.folder = RunFolder(folder)
        self.recipe = recipe
        self.packed = packed
        digest = file_sha256(packed.folder / MANIFEST_NAME)
        self.settings = Settings(recipe, ds_config, packed, digest, accept_changed_shards)

    def train(self, world: World, resume: bool) -> dict[str, Any]:
        """Train to the end, from the newest whole checkpoint if `resume`; collective.

        Returns:
            A summary: steps, final loss, images a second, and where the model is.

        Raises:
            StoppedError: a signal asked for it; the run is saved.
            Sf2Error: what the user must mend.
        """
        ranks, metrics = Ranks.of(None), None
        total = self.settings.total_steps
        crowded = crowding(world, self.recipe.data.workers)
        with ExitStack() as held:
            with ranks.together():
                loader = self._loader(world)
                held.callback(loader.close)
                if world.rank == 0:
                    held.enter_context(self.folder.held())
            start = self._start(world, resume)
            with ranks.together():
                if start.step > total:
                    raise Sf2Error(
                        f"the recipe's schedule ends at step {total}, {start.checkpoint} is"
                        " further",
                        "Give schedule.steps or schedule.epochs what the run was given, or more.",
                    )
                loader.remember(start.bad_samples)
                watched = Watched(start.engine, self.settings, self.folder, loader)
                if world.rank == 0:
                    if crowded is not None:
                        console.warn(crowded)
                    metrics = self._begin(start, watched, loader, resume, held)
            saver = held.enter_context(self._saver(metrics))
            summary = self._steps(start, loader, world, saver, watched, total)
            return self._finish(start.engine, world, summary)

    def _start(self, world: World, resume: bool) -> Start:
        restored = None
        if resume:
            restored = restored_start(self.folder.checkpoints, self.settings, world)
        if restored is None and self.recipe.start:
            return grafted_start(self.settings, world)
        return restored or new_start(self.settings, world)

    def _begin(
        self, start: Start, watched: Watched, loader: TrainLoader, resume: bool, held: ExitStack
    ) -> MetricsFile:
        tell_origin(start, self.settings.total_steps, resume)
        begun = start.checkpoint is not None
        changes: dict[str, str] = {}
        if resume:
            changes = recipe_changes(self.folder.recipe, self.recipe, begun=begun)
        if not begun and (aside := self.folder.set_aside(resume=resume)) is not None:
            console.info(f"what a run without a checkpoint left here is now in {aside}")
        if changes:
            console.info(f"from here on with {', '.join(changes.values())}")
        metrics = self.folder.begin(self.recipe, self.settings.ds_config, start.step)
        tell_run(start, self.settings, loader)
        watched.open(metrics, start.step, changes, held)
        return metrics

    def _saver(self, metrics: MetricsFile | None) -> Saver:
        return Saver(
            self.folder.checkpoints,
            self.recipe.checkpoint,
            self.settings.manifest_sha256,
            self.packed.manifest.identities,
            metrics,
        )

    def _loader(self, world: World) -> TrainLoader:
        data = self.recipe.data
        # Torch's own sentence, which comes once a rank and epoch; `crowding` says it in ours.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        return TrainLoader(
            self.packed,
            batch_size=self.recipe.batch_size // world.size,
            rank=world.rank,
            world_size=world.size,
            seed=self.recipe.seed,
            image_size=data.image_size,
            channels=data.channels,
            flip=data.flip,
            workers=data.workers,
            limits=Augment(**data.augment.limits),
            chances=Degrade(**data.augment.chances),
            max_bad=data.max_bad,
            label_noise=data.label_noise,
            gather=world.gather,
            on_any=world.on_any,
        )

    def _steps(
        self,
        start: Start,
        loader: TrainLoader,
        world: World,
        saver: Saver,
        watched: Watched,
        total: int,
    ) -> dict[str, Any]:
        recipe, engine, batches = self.recipe, start.engine, _batches(loader, start.step)
        loss, waited, began = None, 0.0, time.perf_counter()
        with console.progress("train", total - start.step) as line, StopRequest(world) as request:
            for number in range(start.step + 1, total + 1):
                watched.begin()
                step = self._step(engine, batches, number, total)
                loss, waited = step.loss, waited + step.waited
                watched.end(step, total)
                line.advance(
                    1,
                    loss=f"{step.loss:.4f}",
                    lr=f"{step.lr:.4g}",
                    rate=f"{recipe.batch_size / step.seconds:.0f} images/s",
                    wait=f"{step.waited / step.seconds:.0%} for data",
                )
                saver.poll()
                stop = request.agreed()
                last = stop != 0 or number == total
                if stop and number < total:
                    console.info(f"stopping after step {number}: saving; Ctrl-C ends without it")
                if last or number % recipe.checkpoint.every_steps == 0:
                    saver.save(engine, number, loader.bad_samples, last=last)
                if stop and number < total:
                    dist.barrier()
                    raise StoppedError(stop, number, total)
        seconds = max(time.perf_counter() - began, 1e-9)
        return {
            "steps": total,
            "loss": loss,
            "images_per_s": (total - start.step) * recipe.batch_size / seconds,
            "data_wait": waited / seconds,
            "seconds": seconds,
        }

    def _step(self, engine: TrainingEngine, batches: Batches, number: int, total: int) -> Step:
        # A backbone may draw random numbers: a function of the step, as all else that is random.
        torch.manual_seed(derived_seed(self.recipe.seed, number, dist.get_rank()))
        began = time.perf_counter()
        images, labels = next(batches)
        waited = time.perf_counter() - began
        lr = self.recipe.optimizer.lr * lr_factor(self.recipe.schedule, number - 1, total)
        engine.prepare(lr, number - 1)
        loss = engine.step(images, labels).item()
        return Step(number, loss, lr, time.perf_counter() - began, waited)

    def _finish(
        self, engine: TrainingEngine, world: World, summary: dict[str, Any]
    ) -> dict[str, Any]:
        weights = gather_weights(engine.deepspeed)
        if world.rank == 0:
            made = {"world_size": world.size, "steps": summary["steps"]}
            write_model(self.folder.model, weights, self.settings, engine.head, made)
            write_page(self.folder, self.recipe, summary)
        dist.barrier()
        return {"run": str(self.folder.path), "model": str(self.folder.model), **summary}


def _batches(loader: TrainLoader, start: int) -> Batches:
    """Batches without end, from the one that follows `start` steps."""
    epoch, first = divmod(start, loader.batches_per_epoch)
    while True:
        yield from loader.epoch(epoch, first)
        epoch, first = epoch + 1, 0
