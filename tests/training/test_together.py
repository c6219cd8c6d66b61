"""Clipping, loss scaling, optimisers, offload and checkpointing on two ranks, as plain torch."""

from functools import partial

import numpy as np
import pytest
import torch

from tests.spawn import run_ranks
from tests.training.engines import (
    STAGES,
    assert_trained_alike,
    plain_torch,
    recipe_with,
    train,
)

CLIPPING = 1.0
COMPILED_STAGES = (0, 2)
# Adam moves a weight by the sign of a tiny gradient, which is rounding: eps quiets those.
ADAM = {"type": "AdamW", "params": {"lr": 0.001, "betas": [0.8, 0.9], "eps": 1e-4}}
ADAGRAD = {"type": "adagrad", "params": {"lr": 0.01, "eps": 1e-3}}
CHECKPOINTED = recipe_with(backbone={"activation_checkpointing": True})


def zero(stage, **keys):
    return {"zero_optimization": {"stage": stage}, **keys}


def offloaded(stage, **keys):
    return {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": "cpu"}}, **keys}


def low_precision(name):
    # Another layout takes other kernels, which round differently.
    return recipe_with(precision=name, channels_last=False, backbone={"name": "sfnet4_slim_bn"})


CASES = {
    **{f"clipping, ZeRO {s}": (zero(s, gradient_clipping=CLIPPING), recipe_with()) for s in STAGES},
    "clipping and accumulation": (
        zero(2, gradient_clipping=CLIPPING, gradient_accumulation_steps=2),
        recipe_with(),
    ),
    **{f"AdamW, ZeRO {s}": (zero(s, optimizer=ADAM), recipe_with()) for s in (0, 1, 3)},
    "Adagrad": (
        zero(2, optimizer={"type": "adagrad", "params": {"lr": 0.01, "eps": 1e-3}}),
        recipe_with(),
    ),
    "RMSprop": (zero(3, optimizer={"type": "RMSprop", "params": {"eps": 1e-2}}), recipe_with()),
    **{f"offload, ZeRO {s}": (offloaded(s), recipe_with()) for s in (1, 3)},
    "offload and clipping": (offloaded(2, gradient_clipping=CLIPPING), recipe_with()),
    "units": (zero(0), recipe_with()),
    **{f"checkpointing, ZeRO {s}": (zero(s), CHECKPOINTED) for s in (0, 3)},
    "bf16": (zero(1), low_precision("bf16")),
    "fp16": (zero(2, fp16={"loss_scale": 256}), low_precision("fp16")),
}


def _train_cases():
    return {name: train(config, recipe) for name, (config, recipe) in CASES.items()}


@pytest.fixture(scope="module")
def trained():
    """Of every case, what each of two ranks was left with."""
    ranks = run_ranks(2, _train_cases)
    return {name: [rank[name] for rank in ranks] for name in CASES}


def check(trained, start, expected, atol=1e-5):
    names = [name for name in CASES if name.startswith(start)]
    assert names
    for name in names:
        assert_trained_alike(trained[name], expected, name, atol)


def test_one_norm_clips_backbone_and_head_under_every_stage(trained):
    expected = plain_torch(clipping=CLIPPING)
    # Without AVX-512 one weight of 294,912 is 1.2e-5 off.
    check(trained, "clipping, ZeRO", expected, atol=2e-5)
    check(trained, "offload and clipping", expected, atol=2e-5)


def test_clipping_acts_on_what_was_accumulated(trained):
    check(trained, "clipping and accumulation", plain_torch(pieces=4, clipping=CLIPPING))


def test_an_optimiser_of_ds_json_trains_the_backbone_alone(trained):
    params = {**ADAM["params"], "weight_decay": recipe_with().optimizer.weight_decay}
    check(trained, "AdamW", plain_torch(optimizer=partial(torch.optim.AdamW, **params)))
    adagrad = partial(torch.optim.Adagrad, lr=0.01, eps=1e-3, weight_decay=5e-4)
    check(trained, "Adagrad", plain_torch(optimizer=adagrad))
    rmsprop = partial(torch.optim.RMSprop, lr=0.005, eps=1e-2, weight_decay=5e-4)
    check(trained, "RMSprop", plain_torch(optimizer=rmsprop), atol=1e-4)


def test_an_optimiser_on_the_cpu_takes_the_same_steps(trained):
    check(trained, "offload, ZeRO", plain_torch())


def test_computing_again_changes_neither_gradients_nor_running_statistics(trained):
    expected = plain_torch()
    check(trained, "units", expected)
    check(trained, "checkpointing", expected)
    plain, *checkpointed = (
        trained[name][0].backbone for name in CASES if name.startswith(("units", "checkpointing"))
    )
    for found in checkpointed:
        for name, value in plain.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("precision", "scale"), [("bf16", 1.0), ("fp16", 256.0)])
def test_low_precision_is_autocast_in_plain_torch(precision, scale, trained):
    expected = plain_torch(low_precision(precision), scale=scale)
    check(trained, precision, expected, atol=1e-2)
    assert trained[precision][0].losses != plain_torch().losses


def _train_compiled():
    recipe = recipe_with(backbone={"compile": True})
    return [train(zero(stage), recipe) for stage in COMPILED_STAGES]


@pytest.mark.slow
def test_a_compiled_backbone_trains_as_plain_torch_does():
    ranks, expected = run_ranks(2, _train_compiled), plain_torch()
    for stage, found in zip(COMPILED_STAGES, zip(*ranks, strict=True), strict=True):
        # It rounds otherwise, and a PReLU's input may change its sign.
        assert_trained_alike(found, expected, f"compiled, ZeRO {stage}", atol=1e-3)
