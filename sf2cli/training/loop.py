"""A training run from its first step to the finished model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sf2cli import console
from sf2cli.data.augment import Augment
from sf2cli.data.loader import TrainLoader
from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.files import file_sha256
from sf2cli.heads.sharded import ShardedHead
from sf2cli.recipe import Recipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.checkpoint import RunState, latest_checkpoint, save_checkpoint
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.graft import grafted_engine
from sf2cli.training.model_folder import write_model
from sf2cli.training.page import write_page
from sf2cli.training.restore import new_engine, restored_engine
from sf2cli.training.run_folder import RunFolder
from sf2cli.training.schedule import lr_factor
from sf2cli.training.watched import Step, Watched
from sf2cli.training.world import World

Batches = Iterator[tuple[Tensor, Tensor]]


class Run:
    """One run in its folder."""

    def __init__(
        self, folder: Path, recipe: Recipe, ds_config: dict[str, Any], packed: PackedSet
    ) -> None:
        self.folder = RunFolder(folder)
        self.recipe = recipe
        self.ds_config = ds_config
        self.packed = packed
        self.manifest_sha256 = file_sha256(packed.folder / MANIFEST_NAME)

    def train(self, world: World, resume: bool) -> dict[str, Any]:
        """Train to the end, from the latest checkpoint if `resume`; collective.

        Returns:
            A summary: steps, final loss, images a second, and where the model is.
        """
        recipe = self.recipe
        loader = self._loader(world)
        total = recipe.schedule.steps or (recipe.schedule.epochs or 0) * loader.batches_per_epoch
        checkpoint = latest_checkpoint(self.folder.checkpoints) if resume else None
        settings = (recipe, self.ds_config, world, self.packed)
        if checkpoint:
            engine, start = restored_engine(checkpoint, *settings, self.manifest_sha256)
        elif recipe.start:
            engine, start = grafted_engine(*settings), 0
        else:
            engine, start = new_engine(*settings), 0
        watched = Watched(engine, recipe, self.folder, loader)
        with ExitStack() as held:
            if world.rank == 0:
                opened = self.folder.opened(recipe, self.ds_config, start)
                metrics = held.enter_context(opened)
                watched.open(metrics, start, held)
            dist.barrier()
            if checkpoint:
                console.info(f"going on from {checkpoint} (step {start} of {total})")
            elif resume:
                console.info("no checkpoint was written yet: starting over")
            console.info(
                f"{self.packed.manifest.num_identities} identities, {len(self.packed)} images,"
                f" {total} steps of {recipe.batch_size} on {world.size} rank(s), ZeRO"
                f" {self.ds_config.get('zero_optimization', {}).get('stage', 0)},"
                f" {recipe.precision}; {_describe(engine.head)}"
            )
            batches = _batches(loader, start)
            summary = self._steps(engine, batches, world, watched, start, total)
            return self._finish(engine, world, summary)

    def _loader(self, world: World) -> TrainLoader:
        data = self.recipe.data
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
            limits=Augment(**data.augment.model_dump()),
        )

    def _steps(
        self,
        engine: TrainingEngine,
        batches: Batches,
        world: World,
        watched: Watched,
        start: int,
        total: int,
    ) -> dict[str, Any]:
        recipe = self.recipe
        loss, waited, began = None, 0.0, time.perf_counter()
        with console.progress("train", total - start) as line:
            for number in range(start + 1, total + 1):
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
                if number % recipe.checkpoint.every_steps == 0 or number == total:
                    self._save(engine, number, world)
        seconds = max(time.perf_counter() - began, 1e-9)
        return {
            "steps": total,
            "loss": loss,
            "images_per_s": (total - start) * recipe.batch_size / seconds,
            "data_wait": waited / seconds,
            "seconds": seconds,
        }

    def _step(self, engine: TrainingEngine, batches: Batches, number: int, total: int) -> Step:
        began = time.perf_counter()
        images, labels = next(batches)
        waited = time.perf_counter() - began
        lr = self.recipe.optimizer.lr * lr_factor(self.recipe.schedule, number - 1, total)
        engine.set_lr(lr)
        loss = engine.step(images, labels).item()
        return Step(number, loss, lr, time.perf_counter() - began, waited)

    def _save(self, engine: TrainingEngine, step: int, world: World) -> None:
        state = RunState(step=step, world_size=world.size, manifest_sha256=self.manifest_sha256)
        save_checkpoint(self.folder.checkpoints, engine, state, self.packed.manifest.identities)

    def _finish(
        self, engine: TrainingEngine, world: World, summary: dict[str, Any]
    ) -> dict[str, Any]:
        weights = gather_weights(engine.deepspeed)
        if world.rank == 0:
            made = {
                "manifest_sha256": self.manifest_sha256,
                "world_size": world.size,
                "steps": summary["steps"],
            }
            write_model(self.folder.model, weights, self.recipe, engine.head, made)
            write_page(self.folder, self.recipe, summary)
        dist.barrier()
        return {"run": str(self.folder.path), "model": str(self.folder.model), **summary}


def _describe(head: ShardedHead) -> str:
    """How the head is kept and computed, in a few words."""
    rows, products = (str(x).removeprefix("torch.") for x in (head.weight.dtype, head.products))
    negatives = "all" if head.negatives == 1 else f"{head.negatives:.3g} of the"
    return f"head: {rows} rows, {products} products, {head.kernels.name}, {negatives} negatives"


def _batches(loader: TrainLoader, start: int) -> Batches:
    """Batches without end, from the one that follows `start` steps."""
    epoch, first = divmod(start, loader.batches_per_epoch)
    while True:
        yield from loader.epoch(epoch, first)
        epoch, first = epoch + 1, 0
