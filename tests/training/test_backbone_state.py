"""An optimiser's state is carried over any ZeRO stage and number of ranks."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.training.backbone_state import gather_momentum, restore_momentum
from tests.spawn import run_ranks
from tests.training.engines import (
    new_engine,
    recipe_with,
    restored,
    save,
    take_step,
    weights_of,
)

# Without BatchNorm a step is the same on any number of ranks.
PLAIN = recipe_with(backbone={"name": "sfnet4"})
ADAM = {"optimizer": {"type": "AdamW", "params": {"lr": 0.001, "eps": 1e-3}}}
STATES = {
    "AdamW": ADAM,
    "Adagrad": {"optimizer": {"type": "Adagrad", "params": {"lr": 0.01, "eps": 1e-2}}},
    "offloaded SGD": {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
}


def config(kind, stage):
    chosen = STATES[kind]
    return {**chosen, "zero_optimization": {**chosen.get("zero_optimization", {}), "stage": stage}}


def _save(folder, kinds, stage):
    found = {}
    for kind in kinds:
        engine = new_engine(config(kind, stage), PLAIN)
        for step in range(2):
            take_step(engine, step)
        save(folder / kind, engine, 2)
        found[kind] = _go_on(engine)
    return found


def _go_on(engine):
    """Two more steps: the second shows what state the first one left."""
    losses = [take_step(engine, step) for step in (2, 3)]
    return losses, weights_of(engine)


def _resume(folder, kinds, stages):
    found = {}
    for kind in kinds:
        for stage in stages:
            found[kind, stage] = _go_on(restored(folder / kind, config(kind, stage), PLAIN))
    return found


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_goes_on_under_another_stage_and_number_of_ranks(ranks, tmp_path):
    kinds, saved_stage = [*STATES], 1 if ranks == 3 else 3
    stages = (3,) if ranks == 3 else (1,)
    expected = run_ranks(2, _save, tmp_path, kinds, saved_stage)[0]
    found = run_ranks(ranks, _resume, tmp_path, kinds, stages)[0]
    for (kind, stage), (losses, weights) in found.items():
        expected_losses, expected_weights = expected[kind]
        what = f"{kind}, ZeRO {saved_stage} on 2 ranks to ZeRO {stage} on {ranks}"
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-5, err_msg=what)
        for name, value in expected_weights.items():
            np.testing.assert_allclose(weights[name], value, atol=1e-5, err_msg=f"{what}: {name}")


def _another_optimiser():
    engine = new_engine(config("AdamW", 0), PLAIN)
    take_step(engine, 0)
    momentum = gather_momentum(engine.deepspeed)
    with pytest.raises(Sf2Error) as caught:
        restore_momentum(new_engine({}, PLAIN).deepspeed, momentum)
    return str(caught.value), float(momentum["step"])


def test_the_state_of_another_optimiser_is_refused():
    ((said, steps),) = run_ranks(1, _another_optimiser)
    assert "exp_avg, exp_avg_sq" in said
    assert "SGD keeps momentum_buffer" in said
    assert steps == 1
