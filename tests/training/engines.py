"""A small training step, under `TrainingEngine` and in plain single-process torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.heads.initial import initialize_rows_
from sf2cli.heads.sphereface2 import initial_bias, oracle_loss
from sf2cli.recipe import Recipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.checkpoint import BACKBONE, read_state, read_tensors, restore
from sf2cli.training.checkpoint_folder import latest_checkpoint
from sf2cli.training.ds_config import fill_ds_config
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.head import head_settings
from sf2cli.training.snapshot import take_snapshot, write_checkpoint
from sf2cli.training.world import World

IDENTITIES, BATCH, STEPS = 5, 24, 3
STAGES = (0, 1, 2, 3)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def recipe_with(**settings: Any) -> Recipe:
    """The recipe of these tests; `settings` replace fields, those of sections given as dicts."""
    tree: dict[str, Any] = {
        "name": "t",
        "batch_size": BATCH,
        "data": {"shards": "s", "image_size": 16, "channels": 1},
        "backbone": {"name": "sfnet4_bn", "embedding_size": 8},
        "head": {"bias": "learned", "curriculum": None},
        "optimizer": {"lr": 0.005},
        "schedule": {"steps": STEPS},
    }
    for name, value in settings.items():
        tree[name] = {**tree[name], **value} if isinstance(value, dict) else value
    return Recipe.model_validate(tree)


RECIPE = recipe_with()


@dataclass(frozen=True)
class Trained:
    """What some steps left: backbone parameters and buffers, head rows and losses."""

    backbone: dict[str, np.ndarray]
    head: np.ndarray
    losses: list[float]


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, IDENTITIES, (BATCH,), generator=generator)


def plain_torch(
    recipe: Recipe = RECIPE,
    pieces: int = 2,
    optimizer: Any = None,
    clipping: float = 0.0,
    scale: float = 1.0,
) -> Trained:
    """STEPS of torch autograd and torch.optim.SGD in one process.

    The batch goes through the backbone in `pieces`, since BatchNorm sees a micro batch of a rank.
    `optimizer` builds another optimiser for the backbone; clipping is by the norm of everything.
    """
    backbone = new_backbone(recipe).train()
    hp = head_settings(recipe)
    weight = torch.empty(IDENTITIES, recipe.backbone.embedding_size)
    initialize_rows_(weight, 0, recipe.seed)
    weight = torch.nn.Parameter(weight)
    bias = torch.nn.Parameter(torch.tensor(initial_bias(hp, IDENTITIES)))
    settings = recipe.optimizer
    sgd = partial(
        torch.optim.SGD,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    trainable = [p for p in backbone.parameters() if p.requires_grad]
    optimizers = [(optimizer or sgd)(trainable), sgd([weight, bias])]
    losses = []
    for step in range(STEPS):
        images, labels = batch_of(step)
        weight.data = F.normalize(weight.data)
        floats = normalise(images, Preprocessing.for_channels(1))
        dtype = _DTYPES.get(recipe.precision)
        features = torch.cat([_in(dtype, backbone, piece) for piece in floats.chunk(pieces)])
        loss = oracle_loss(features, weight, bias, labels, hp)
        for each in optimizers:
            each.zero_grad()
        (loss * scale).backward()
        parameters = [*trainable, weight, bias]
        for parameter in parameters:
            parameter.grad /= scale
        if clipping:
            assert torch.nn.utils.clip_grad_norm_(parameters, clipping) > 1.2 * clipping
        for each in optimizers:
            each.step()
        losses.append(loss.item())
    state = {name: value.detach().numpy() for name, value in backbone.named_parameters()}
    return Trained(state, F.normalize(weight.detach()).numpy(), losses)


def _in(dtype: torch.dtype | None, backbone: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    # A context for each piece: within one, casts are shared, and gradients summed in their type.
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        features: torch.Tensor = backbone(images)
    return features.float()


def new_engine(
    ds_config: dict[str, Any], recipe: Recipe = RECIPE, backbone: Any = None
) -> TrainingEngine:
    world = World(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    filled = fill_ds_config(ds_config, recipe, world.size, None)
    made = backbone or new_backbone(recipe)
    return TrainingEngine(recipe, made, filled, world, IDENTITIES, STEPS)


def take_step(engine: TrainingEngine, step: int, accumulation: int = 1) -> float:
    """A step on this rank's share: of micro batch i of all ranks, the rank's part."""
    images, labels = batch_of(step)
    rank, world = dist.get_rank(), dist.get_world_size()
    shares = torch.arange(BATCH).reshape(accumulation, world, -1)[:, rank].flatten()
    return engine.step(images[shares], labels[shares]).item()


def save(folder: Path, engine: TrainingEngine, step: int) -> None:
    """A checkpoint of the engine in `folder`; collective."""
    names = [str(i) for i in range(IDENTITIES)]
    snapshot = take_snapshot(engine, step, "", names, {}, copy=False)
    write_checkpoint(folder, snapshot, engine.head.ranks, keep=1)


def restored(folder: Path, ds_config: dict[str, Any], recipe: Recipe = RECIPE) -> TrainingEngine:
    """A new engine with the newest checkpoint in `folder`; collective."""
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    state = read_state(checkpoint)
    backbone = new_backbone(recipe.model_copy(update={"seed": 1}))
    backbone.load_state_dict(read_tensors(checkpoint, BACKBONE, state))
    engine = new_engine(ds_config, recipe, backbone)
    restore(checkpoint, state, engine)
    return engine


def weights_of(engine: TrainingEngine) -> dict[str, np.ndarray]:
    """Every parameter and buffer of the backbone, whole; collective."""
    return {name: value.numpy() for name, value in gather_weights(engine.deepspeed).items()}


def train(ds_config: dict[str, Any], recipe: Recipe = RECIPE) -> Trained:
    """STEPS steps on this rank; `head` holds its own rows."""
    accumulation = ds_config.get("gradient_accumulation_steps", 1)
    engine = new_engine(ds_config, recipe)
    losses = [take_step(engine, step, accumulation) for step in range(STEPS)]
    return Trained(weights_of(engine), engine.head.weight.detach().numpy(), losses)


def assert_trained_alike(
    ranks: list[Trained], expected: Trained, what: object, atol: float = 1e-5
) -> None:
    """Backbone and losses of every rank, and the head's rows of all of them, are the expected."""
    for found in ranks:
        np.testing.assert_allclose(found.losses, expected.losses, rtol=atol, err_msg=str(what))
        for name, value in expected.backbone.items():
            np.testing.assert_allclose(
                found.backbone[name], value, atol=atol, err_msg=f"{what}: {name}"
            )
    rows = np.concatenate([found.head for found in ranks])
    np.testing.assert_allclose(rows, expected.head, atol=atol, err_msg=str(what))
