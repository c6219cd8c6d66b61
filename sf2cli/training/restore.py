"""Going on: an engine as the newest whole checkpoint left it."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from sf2cli import console
from sf2cli.data.packed import PackedSet
from sf2cli.errors import DamagedError, Sf2Error, in_short
from sf2cli.heads.manifest import read_head_manifest
from sf2cli.heads.ranks import Ranks
from sf2cli.recipe import Recipe
from sf2cli.training.checkpoint import BACKBONE, RunState, read_state, read_tensors, restore
from sf2cli.training.checkpoint_folder import whole_checkpoints
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.world import World


@dataclass(frozen=True)
class Settings:
    """What an engine is built from. `manifest_sha256` is that of `packed`."""

    recipe: Recipe
    ds_config: dict[str, Any]
    packed: PackedSet
    manifest_sha256: str
    accept_changed_shards: bool

    @property
    def total_steps(self) -> int:
        """The length of the run as the recipe has it now."""
        schedule, batches = self.recipe.schedule, len(self.packed) // self.recipe.batch_size
        return schedule.steps or (schedule.epochs or 0) * batches


class Start(NamedTuple):
    """An engine, the step it stands at, and the checkpoint that it was restored from.

    `bad_samples` are the damaged samples of the set that were met by then, and why.
    """

    engine: TrainingEngine
    step: int = 0
    checkpoint: Path | None = None
    bad_samples: Mapping[int, str] = MappingProxyType({})


def new_start(settings: Settings, world: World) -> Start:
    """An engine at step 0; collective."""
    recipe, classes = settings.recipe, settings.packed.manifest.num_identities
    backbone = new_backbone(recipe)
    return Start(
        TrainingEngine(recipe, backbone, settings.ds_config, world, classes, settings.total_steps)
    )


def restored_start(folder: Path, settings: Settings, world: World) -> Start | None:
    """From the newest checkpoint in `folder` that is whole; None where none was ever written.

    Collective.

    Raises:
        Sf2Error: there are checkpoints and all are damaged, or one is of another set or backbone.
    """
    ranks = Ranks.of(None)
    damaged: DamagedError | None = None
    for checkpoint in ranks.agree(whole_checkpoints(folder)):
        try:
            return _restored(checkpoint, settings, world, ranks)
        except DamagedError as failure:
            console.warn(f"{failure.message}; trying the checkpoint before")
            damaged = damaged or failure
            # The engine half filled goes before the next one comes.
            gc.collect()
    if damaged is not None:
        raise Sf2Error(
            f"--resume: no checkpoint in {folder} is whole; of the newest: {damaged.message}",
            "Copy a whole checkpoint there, or start a new run with --out.",
        )
    return None


def _restored(checkpoint: Path, settings: Settings, world: World, ranks: Ranks) -> Start:
    state, weights, failure = None, {}, None
    try:
        state = read_state(checkpoint)
        _check_set(checkpoint, state, settings)
        weights = read_tensors(checkpoint, BACKBONE, state)
    except Sf2Error as problem:
        failure = problem
    ranks.raise_together(failure)
    assert state is not None
    recipe = settings.recipe
    backbone = new_backbone(recipe)
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as problem:
        raise DamagedError(
            f"{checkpoint / BACKBONE}: not of this recipe's backbone ({in_short(problem)})"
        ) from None
    products: torch.dtype = getattr(torch, state.products)
    num_classes = settings.packed.manifest.num_identities
    engine = TrainingEngine(
        recipe,
        backbone,
        settings.ds_config,
        world,
        num_classes,
        state.planned_steps,
        products,
    )
    restore(checkpoint, state, engine)
    same_set = state.manifest_sha256 == settings.manifest_sha256
    return Start(engine, state.step, checkpoint, state.bad_samples if same_set else {})


def _check_set(checkpoint: Path, state: RunState, settings: Settings) -> None:
    if state.manifest_sha256 == settings.manifest_sha256:
        return
    folder = settings.packed.folder
    if not settings.accept_changed_shards:
        raise Sf2Error(
            f"--resume: {folder} is not the set that {checkpoint} was trained on (its manifest's"
            f" sha256 is {settings.manifest_sha256[:12]}..., not {state.manifest_sha256[:12]}...)",
            "Point data.shards at the same packed set, start a new run with --out, or go on with"
            " the changed one: --accept-changed-shards.",
        )
    if read_head_manifest(checkpoint / "head").identities != settings.packed.manifest.identities:
        raise Sf2Error(
            f"--accept-changed-shards: the identities of {folder} are not those that {checkpoint}"
            " was trained on",
            "A run goes on with other images of the same identities only; start a new one.",
        )
