"""Going on: an engine as the latest checkpoint left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe
from sf2cli.training.checkpoint import read_state, read_weights, restore_optimizers_and_head
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.world import World


def new_engine(
    recipe: Recipe, ds_config: dict[str, Any], world: World, packed: PackedSet
) -> TrainingEngine:
    """An engine at step 0; collective."""
    backbone = new_backbone(recipe)
    return TrainingEngine(recipe, backbone, ds_config, world, packed.manifest.num_identities)


def restored_engine(
    checkpoint: Path,
    recipe: Recipe,
    ds_config: dict[str, Any],
    world: World,
    packed: PackedSet,
    manifest_sha256: str,
) -> tuple[TrainingEngine, int]:
    """The engine and the step it stands at; collective.

    Raises:
        Sf2Error: the checkpoint cannot be read, or is of another set or backbone.
    """
    state = read_state(checkpoint)
    if state.manifest_sha256 != manifest_sha256:
        raise Sf2Error(
            f"--resume: {packed.folder} is not the set that {checkpoint} was trained on",
            "Point data.shards at the same packed set, or start a new run with --out.",
        )
    backbone = new_backbone(recipe)
    try:
        backbone.load_state_dict(read_weights(checkpoint))
    except RuntimeError as failure:
        raise Sf2Error(
            f"--resume: {checkpoint} is not of this recipe's backbone"
            f" ({' '.join(str(failure).split())[:200]})",
            f"Take backbone and image size from {checkpoint.parents[1] / 'recipe.yaml'}.",
        ) from None
    engine = TrainingEngine(recipe, backbone, ds_config, world, packed.manifest.num_identities)
    restore_optimizers_and_head(checkpoint, engine)
    return engine, state.step
