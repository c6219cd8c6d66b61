"""Backbone under DeepSpeed and head on two ranks, against one process of plain torch."""

import numpy as np
import pytest
import torch

from sf2cli.training.engine import laid_out, new_backbone
from tests.spawn import run_ranks
from tests.training.engines import (
    RECIPE,
    STAGES,
    assert_trained_alike,
    new_engine,
    plain_torch,
    restored,
    save,
    take_step,
    train,
    weights_of,
)


def _train_every_stage(accumulation):
    return [
        train({"gradient_accumulation_steps": accumulation, "zero_optimization": {"stage": stage}})
        for stage in STAGES
    ]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_ranks_train_as_plain_torch_does_under_every_zero_stage(accumulation):
    expected = plain_torch(pieces=2 * accumulation)
    start = dict(new_backbone(RECIPE).named_parameters())
    moved = [
        np.abs(start[name].detach().numpy() - w).max() for name, w in expected.backbone.items()
    ]
    assert max(moved) > 1e-2
    ranks = run_ranks(2, _train_every_stage, accumulation)
    for stage, found in zip(STAGES, zip(*ranks, strict=True), strict=True):
        assert_trained_alike(found, expected, f"ZeRO {stage}")


def _save_every_stage(folder):
    return [_save_and_go_on(stage, folder / str(stage)) for stage in STAGES]


def _save_and_go_on(stage, folder):
    engine = new_engine({"zero_optimization": {"stage": stage}})
    for step in range(2):
        take_step(engine, step)
    save(folder, engine, 2)
    return _last_step(engine)


def _resume_each(folder, changes):
    return [_resume(folder / str(saved), resumed) for saved, resumed in changes]


def _resume(folder, stage):
    return _last_step(restored(folder, {"zero_optimization": {"stage": stage}}))


def _last_step(engine):
    loss = take_step(engine, 2)
    return loss, weights_of(engine)


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


@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_layout_that_the_recipe_asks_for(channels):
    loaded = torch.rand(4, 6, 5, channels).permute(0, 3, 1, 2)
    plain, last = laid_out(loaded, False), laid_out(loaded, True)
    assert plain.stride() == (30 * channels, 30, 5, 1)
    assert last.stride() == (30 * channels, 1, 5 * channels, channels)
    assert plain.equal(loaded)
    assert last.equal(loaded)
