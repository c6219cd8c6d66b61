"""Backbone under DeepSpeed and head on two ranks, against one process of plain torch."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.heads.initial import initialize_rows_
from sf2cli.heads.sphereface2 import initial_bias, oracle_loss
from sf2cli.recipe import Recipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.checkpoint import (
    BACKBONE,
    read_state,
    read_tensors,
    restore,
    take_snapshot,
    write_checkpoint,
)
from sf2cli.training.checkpoint_folder import latest_checkpoint
from sf2cli.training.ds_config import fill_ds_config
from sf2cli.training.engine import TrainingEngine, head_settings, new_backbone
from sf2cli.training.world import World
from tests.spawn import run_ranks

IDENTITIES, BATCH, STEPS = 5, 24, 3
STAGES = (0, 1, 2, 3)
RECIPE = Recipe.model_validate(
    {
        "name": "t",
        "batch_size": BATCH,
        "data": {"shards": "s", "image_size": 16, "channels": 1},
        "backbone": {"name": "sfnet4_bn", "embedding_size": 8},
        "optimizer": {"lr": 0.005},
        "schedule": {"steps": STEPS},
    }
)


def batch_of(step):
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, IDENTITIES, (BATCH,), generator=generator)


def plain_torch(pieces):
    """Backbone weights, W and losses after STEPS of torch autograd and torch.optim.SGD.

    The batch goes through the backbone in `pieces`, since BatchNorm sees a micro batch of a rank.
    """
    backbone = new_backbone(RECIPE).train()
    hp = head_settings(RECIPE)
    weight = torch.empty(IDENTITIES, RECIPE.backbone.embedding_size)
    initialize_rows_(weight, 0, RECIPE.seed)
    weight = torch.nn.Parameter(weight)
    bias = torch.nn.Parameter(torch.tensor(initial_bias(hp, IDENTITIES)))
    settings = RECIPE.optimizer
    sgd = torch.optim.SGD(
        [*backbone.parameters(), weight, bias],
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    losses = []
    for step in range(STEPS):
        images, labels = batch_of(step)
        weight.data = F.normalize(weight.data)
        floats = normalise(images, Preprocessing.for_channels(1))
        features = torch.cat([backbone(piece) for piece in floats.chunk(pieces)])
        loss = oracle_loss(features, weight, bias, labels, hp)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    parameters = {name: value.detach().numpy() for name, value in backbone.named_parameters()}
    return parameters, F.normalize(weight.detach()).numpy(), losses


def new_engine(stage, accumulation=1, backbone=None):
    world = World(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    config = {
        "gradient_accumulation_steps": accumulation,
        "zero_optimization": {"stage": stage},
    }
    filled = fill_ds_config(config, RECIPE, world.size, None)
    return TrainingEngine(RECIPE, backbone or new_backbone(RECIPE), filled, world, IDENTITIES)


def take_step(engine, step, accumulation=1):
    """A step on this rank's share: of micro batch i of all ranks, the rank's part."""
    images, labels = batch_of(step)
    rank, world = dist.get_rank(), dist.get_world_size()
    shares = torch.arange(BATCH).reshape(accumulation, world, -1)[:, rank].flatten()
    return engine.step(images[shares], labels[shares]).item()


def _train_every_stage(accumulation):
    return [_train(stage, accumulation) for stage in STAGES]


def _train(stage, accumulation):
    engine = new_engine(stage, accumulation)
    losses = [take_step(engine, step, accumulation) for step in range(STEPS)]
    weights = {name: value.numpy() for name, value in gather_weights(engine.deepspeed).items()}
    return weights, engine.head.weight.detach().numpy(), losses


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_ranks_train_as_plain_torch_does_under_every_zero_stage(accumulation):
    parameters, weight, losses = plain_torch(pieces=2 * accumulation)
    start = dict(new_backbone(RECIPE).named_parameters())
    moved = [np.abs(start[name].detach().numpy() - w).max() for name, w in parameters.items()]
    assert max(moved) > 1e-2
    ranks = run_ranks(2, _train_every_stage, accumulation)
    for stage, (first, second) in zip(STAGES, zip(*ranks, strict=True), strict=True):
        for found, _, found_losses in (first, second):
            np.testing.assert_allclose(found_losses, losses, rtol=1e-5)
            for name, expected in parameters.items():
                np.testing.assert_allclose(
                    found[name], expected, atol=1e-5, err_msg=f"{stage} {name}"
                )
        np.testing.assert_allclose(np.concatenate([first[1], second[1]]), weight, atol=1e-5)


def _save_every_stage(folder):
    return [_save_and_go_on(stage, folder / str(stage)) for stage in STAGES]


def _save_and_go_on(stage, folder):
    engine = new_engine(stage)
    for step in range(2):
        take_step(engine, step)
    snapshot = take_snapshot(engine, 2, "", [str(i) for i in range(IDENTITIES)], copy=False)
    write_checkpoint(folder, snapshot, engine.head.ranks, keep=1)
    return _last_step(engine)


def _resume_each(folder, changes):
    return [_resume(folder / str(saved), resumed) for saved, resumed in changes]


def _resume(folder, stage):
    checkpoint = latest_checkpoint(folder)
    backbone = new_backbone(RECIPE.model_copy(update={"seed": 1}))
    state = read_state(checkpoint)
    backbone.load_state_dict(read_tensors(checkpoint, BACKBONE, state))
    engine = new_engine(stage, backbone=backbone)
    restore(checkpoint, state, engine)
    return _last_step(engine)


def _last_step(engine):
    loss = take_step(engine, 2)
    return loss, {name: value.numpy() for name, value in gather_weights(engine.deepspeed).items()}


def test_a_resumed_step_is_the_step_that_would_have_come(tmp_path):
    changes = [(0, 0), (1, 1), (2, 2), (3, 3), (1, 3), (3, 0)]
    expected = run_ranks(2, _save_every_stage, tmp_path)[0]
    found = run_ranks(2, _resume_each, tmp_path, changes)[0]
    for (saved, resumed), (loss, weights) in zip(changes, found, strict=True):
        expected_loss, expected_weights = expected[saved]
        assert loss == pytest.approx(expected_loss, rel=1e-6), (saved, resumed)
        for name, value in expected_weights.items():
            if "running" not in name:
                np.testing.assert_allclose(
                    weights[name], value, atol=1e-6, err_msg=f"{saved} to {resumed}: {name}"
                )
