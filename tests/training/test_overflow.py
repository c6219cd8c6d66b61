"""fp16 whose gradients overflow: head and backbone skip together, on every rank, not for ever."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from tests.spawn import run_ranks
from tests.training.engines import (
    new_engine,
    recipe_with,
    restored,
    save,
    take_step,
    weights_of,
)

STAGES = (0, 2, 3)
# Far enough beyond fp16's 65504 for a few halvings, and for more than ENDS_AFTER.
POWER, ENDS_AFTER = 24, 3
# fp16 is slow on a CPU, and slim is small.
_SLIM = {"name": "sfnet4_slim_bn"}
FP16, IMPATIENT = (
    recipe_with(
        precision="fp16", backbone=_SLIM, optimizer={"lr": 0.005, "max_skipped": max_skipped}
    )
    for max_skipped in (60, ENDS_AFTER)
)


def config(stage):
    return {
        "zero_optimization": {"stage": stage},
        "fp16": {"initial_scale_power": POWER, "hysteresis": 1},
    }


def state_of(engine):
    """Parameters of backbone and head; BatchNorm's statistics move in skipped steps as well."""
    names = [name for name, _ in engine.backbone.named_parameters()]
    weights = weights_of(engine)
    head = engine.head.weight.detach().numpy().copy()
    return {"head": head, **{name: weights[name] for name in names}}


def moved(before, after):
    return [name for name, value in before.items() if not np.array_equal(value, after[name])]


def _skip_until_it_fits(folder):
    found = {}
    for stage in STAGES:
        engine = new_engine(config(stage), FP16)
        start, halvings, gone_astray = state_of(engine), 0, None
        while True:
            take_step(engine, 0)
            if not engine.loss_scale.skipped_in_a_row:
                break
            halvings += 1
            if halvings == 1:
                gone_astray = moved(start, state_of(engine))
        found[stage] = {
            "halvings": halvings,
            "skipped": engine.loss_scale.skipped,
            "scale": engine.loss_scale.value,
            "gone astray": gone_astray,
            "moved": moved(start, state_of(engine)),
            "refused": engine.skipped,
            "after restoring": _restored(engine, stage, folder / str(stage)),
        }
    return found


def _restored(engine, stage, folder):
    save(folder, engine, 1)
    other = restored(folder, config(stage), FP16)
    return other.loss_scale.value, other.loss_scale.skipped


def _never_fits():
    engine = new_engine(config(1), IMPATIENT)
    for step in range(ENDS_AFTER - 1):
        take_step(engine, step)
    with pytest.raises(Sf2Error) as caught:
        take_step(engine, ENDS_AFTER)
    return str(caught.value)


def _both(folder):
    return _skip_until_it_fits(folder), _never_fits()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_ranks(2, _both, tmp_path_factory.mktemp("overflow"))


def test_head_and_backbone_skip_until_the_scale_fits(ranks):
    ranks = [found for found, _ in ranks]
    for stage in STAGES:
        for found in (rank[stage] for rank in ranks):
            assert found["halvings"] == found["skipped"] > 1
            assert found["scale"] == 2.0 ** (POWER - found["halvings"])
            assert found["gone astray"] == []
            assert {"head", "fc.weight", "layer1.0.conv1.weight"} <= {*found["moved"]}
            assert not found["refused"]
            assert found["after restoring"] == (found["scale"], found["skipped"])
        assert ranks[0][stage]["halvings"] == ranks[1][stage]["halvings"]


def test_a_run_that_skips_too_often_ends_with_a_diagnosis(ranks):
    for _, said in ranks:
        assert f"skipped {ENDS_AFTER} steps in a row" in said
        assert "gradient of the backbone is not finite" in said
        assert f"loss scale of {2.0 ** (POWER - ENDS_AFTER + 1):g}" in said
        assert "optimizer.lr" in said
