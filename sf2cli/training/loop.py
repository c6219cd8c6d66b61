"""A training run from its first step to the finished model."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sf2cli import console
from sf2cli.backbones.saved import save_model
from sf2cli.data.augment import Augment
from sf2cli.data.loader import TrainLoader
from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256, replace_file
from sf2cli.heads.sharded import ShardedHead
from sf2cli.recipe import Recipe, dump_recipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.checkpoint import (
    RunState,
    latest_checkpoint,
    read_state,
    read_weights,
    restore_optimizers_and_head,
    save_checkpoint,
)
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.lock import locked
from sf2cli.training.schedule import lr_factor
from sf2cli.training.world import World


class Run:
    """One run in its folder: recipe.yaml, ds.json, metrics.jsonl, checkpoints/ and model/."""

    def __init__(
        self, folder: Path, recipe: Recipe, ds_config: dict[str, Any], packed: PackedSet
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.ds_config = ds_config
        self.packed = packed
        self.manifest_sha256 = file_sha256(packed.folder / MANIFEST_NAME)

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def train(self, world: World, resume: bool) -> dict[str, Any]:
        """Train to the end, from the latest checkpoint if `resume`; collective.

        Returns:
            A summary: steps, final loss, images a second, and where the model is.
        """
        recipe = self.recipe
        loader = self._loader(world)
        total = recipe.schedule.steps or (recipe.schedule.epochs or 0) * loader.batches_per_epoch
        checkpoint = latest_checkpoint(self.checkpoints) if resume else None
        start = self._state_of(checkpoint).step if checkpoint else 0
        engine = self._engine(world, checkpoint)
        with ExitStack() as held:
            if world.rank == 0:
                self._open_folder(start, held)
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
            summary = self._steps(engine, loader, world, start, total)
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

    def _state_of(self, checkpoint: Path) -> RunState:
        state = read_state(checkpoint)
        if state.manifest_sha256 != self.manifest_sha256:
            raise Sf2Error(
                f"--resume: {self.packed.folder} is not the set that {checkpoint} was trained on",
                "Point data.shards at the same packed set, or start a new run with --out.",
            )
        return state

    def _engine(self, world: World, checkpoint: Path | None) -> TrainingEngine:
        backbone = new_backbone(self.recipe)
        if checkpoint:
            try:
                backbone.load_state_dict(read_weights(checkpoint))
            except RuntimeError as failure:
                raise Sf2Error(
                    f"--resume: {checkpoint} is not of this recipe's backbone"
                    f" ({' '.join(str(failure).split())[:200]})",
                    f"Take backbone and image size from {self.folder / 'recipe.yaml'}.",
                ) from None
        engine = TrainingEngine(
            self.recipe, backbone, self.ds_config, world, self.packed.manifest.num_identities
        )
        if checkpoint:
            restore_optimizers_and_head(checkpoint, engine)
        return engine

    def _open_folder(self, start: int, held: ExitStack) -> None:
        new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(self.folder))
            self._write_settings(start)
        except OSError as failure:
            if new:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise self._refused(self.folder, failure) from None

    def _refused(self, path: Path, failure: OSError) -> Sf2Error:
        return Sf2Error(
            f"{path}: cannot be written ({failure.strerror})",
            "Free disk space, or choose another folder with --out.",
        )

    def _write_settings(self, start: int) -> None:
        replace_file(self.folder / "recipe.yaml", dump_recipe(self.recipe))
        replace_file(self.folder / "ds.json", json.dumps(self.ds_config, indent=2) + "\n")
        kept = ""
        if start and self.metrics_path.exists():
            lines = self.metrics_path.read_text(encoding="utf-8").splitlines()
            kept = "".join(f"{line}\n" for line in lines if _step_of(line) <= start)
        replace_file(self.metrics_path, kept)

    def _steps(
        self, engine: TrainingEngine, loader: TrainLoader, world: World, start: int, total: int
    ) -> dict[str, Any]:
        recipe = self.recipe
        batches = _batches(loader, start)
        loss, done, waited, began = math.nan, 0, 0.0, time.perf_counter()
        with console.progress("train", total - start) as line:
            for step in range(start + 1, total + 1):
                step_began = time.perf_counter()
                images, labels = next(batches)
                wait = time.perf_counter() - step_began
                lr = recipe.optimizer.lr * lr_factor(recipe.schedule, step - 1, total)
                engine.set_lr(lr)
                loss = engine.step(images, labels).item()
                seconds = time.perf_counter() - step_began
                waited, done = waited + wait, done + 1
                rate = recipe.batch_size / seconds
                if engine.skipped or not math.isfinite(loss):
                    what = f"the loss is {loss}"
                    if math.isfinite(loss):
                        what = f"the backbone's gradient is not finite (loss {loss:.4g})"
                    raise Sf2Error(
                        f"{what} at step {step} (learning rate {lr:.4g})",
                        "Lower optimizer.lr or head.loss_weight, or lengthen the warm-up.",
                    )
                if world.rank == 0:
                    self._log(step, loss, lr, rate, wait / seconds, engine)
                line.advance(
                    1,
                    loss=f"{loss:.4f}",
                    lr=f"{lr:.4g}",
                    rate=f"{rate:.0f} images/s",
                    wait=f"{wait / seconds:.0%} for data",
                )
                if step % recipe.checkpoint.every_steps == 0 or step == total:
                    self._save(engine, step, world)
        seconds = max(time.perf_counter() - began, 1e-9)
        return {
            "steps": total,
            "loss": loss if done else None,
            "images_per_s": done * recipe.batch_size / seconds,
            "data_wait": waited / seconds,
            "seconds": seconds,
        }

    def _log(
        self, step: int, loss: float, lr: float, rate: float, wait: float, engine: TrainingEngine
    ) -> None:
        record = {
            "step": step,
            "loss": loss,
            "lr": lr,
            "images_per_s": rate,
            "data_wait": wait,
            "bias": engine.head.bias.item(),
        }
        try:
            with self.metrics_path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
        except OSError as failure:
            raise self._refused(self.metrics_path, failure) from None

    def _save(self, engine: TrainingEngine, step: int, world: World) -> None:
        state = RunState(step=step, world_size=world.size, manifest_sha256=self.manifest_sha256)
        save_checkpoint(self.checkpoints, engine, state, self.packed.manifest.identities)

    def _finish(
        self, engine: TrainingEngine, world: World, summary: dict[str, Any]
    ) -> dict[str, Any]:
        weights = gather_weights(engine.deepspeed)
        model = self.folder / "model"
        if world.rank == 0:
            recipe = self.recipe
            head = recipe.head.model_dump(by_alias=True)
            save_model(
                model,
                weights,
                backbone={
                    "name": recipe.backbone.name,
                    "embedding_size": recipe.backbone.embedding_size,
                    "image_size": recipe.data.image_size,
                    "channels": recipe.data.channels,
                },
                head={
                    **head,
                    "bias": engine.head.bias.item(),
                    "num_classes": self.packed.manifest.num_identities,
                },
                training={
                    "recipe": recipe.model_dump(mode="json", by_alias=True),
                    "manifest_sha256": self.manifest_sha256,
                    "images": self.packed.manifest.image.model_dump(mode="json"),
                    "alignment": self.packed.manifest.made_by.get("alignment"),
                    "world_size": world.size,
                    "steps": summary["steps"],
                },
                identities=self.packed.manifest.identities,
            )
        dist.barrier()
        return {"run": str(self.folder), "model": str(model), **summary}


def _describe(head: ShardedHead) -> str:
    """How the head is kept and computed, in a few words."""
    rows, products = (str(x).removeprefix("torch.") for x in (head.weight.dtype, head.products))
    negatives = "all" if head.negatives == 1 else f"{head.negatives:.3g} of the"
    return f"head: {rows} rows, {products} products, {head.kernels.name}, {negatives} negatives"


def _batches(loader: TrainLoader, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, from the one that follows `start` steps."""
    epoch, first = divmod(start, loader.batches_per_epoch)
    while True:
        yield from loader.epoch(epoch, first)
        epoch, first = epoch + 1, 0


def _step_of(line: str) -> int:
    """The step of a metrics line; a line cut short by a kill counts as lost."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**63
