import json

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe
from sf2cli.training.ds_config import fill_ds_config, load_ds_config

RECIPE = Recipe.model_validate(
    {
        "name": "t",
        "batch_size": 24,
        "data": {"shards": "s"},
        "backbone": {"name": "sfnet4"},
        "schedule": {"steps": 1},
    }
)


def load(tmp_path, value):
    path = tmp_path / "ds.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path, load_ds_config(path)


def test_auto_and_absent_values_come_from_the_recipe(tmp_path):
    path, config = load(
        tmp_path, {"train_batch_size": "auto", "gradient_accumulation_steps": 2, "bf16": {}}
    )
    filled = fill_ds_config(config, RECIPE, 3, path)
    assert filled["train_batch_size"] == 24
    assert filled["train_micro_batch_size_per_gpu"] == 4
    assert filled["torch_autocast"]["enabled"] is False
    bf16 = RECIPE.model_copy(update={"precision": "bf16"})
    assert fill_ds_config(config, bf16, 3, path)["torch_autocast"]["enabled"] is True


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ({"optimizer": {"type": "Adam"}}, "optimizer: sf2 cannot honour"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler: sf2 cannot honour"),
        ({"gradient_clipping": 1.0}, "gradient_clipping: sf2 cannot honour"),
        ({"fp16": {"enabled": True}}, "fp16: sf2 cannot honour"),
        ({"flops_profiler": {}}, "flops_profiler: sf2 cannot honour"),
        ({"zero_optimization": {"stage": 4}}, "stage: expected 0, 1, 2 or 3, found 4"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {}}}, "offload_optimizer"),
        ({"zero_optimization": 2}, "zero_optimization: expected an object"),
        ({"bf16": True}, "bf16: expected"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, content, named):
    with pytest.raises(Sf2Error, match=named):
        load(tmp_path, content)


def test_refused_sections_that_are_off_are_let_through(tmp_path):
    load(tmp_path, {"fp16": {"enabled": False}, "gradient_clipping": 0})


@pytest.mark.parametrize(
    ("config", "world", "named"),
    [
        ({}, 5, "does not divide by 5 ranks"),
        ({"train_batch_size": 32}, 1, "train_batch_size is 32, but"),
        ({"train_micro_batch_size_per_gpu": 5}, 2, "train_micro_batch_size_per_gpu is 5"),
        ({"gradient_accumulation_steps": 0}, 1, "expected a positive integer, found 0"),
        ({"gradient_accumulation_steps": "two"}, 1, "found 'two'"),
        ({"bf16": {"enabled": True}}, 1, "precision is fp32"),
    ],
)
def test_contradictions_with_the_recipe_are_named(tmp_path, config, world, named):
    path, loaded = load(tmp_path, config)
    with pytest.raises(Sf2Error, match=named):
        fill_ds_config(loaded, RECIPE, world, path)


def test_missing_file(tmp_path):
    with pytest.raises(Sf2Error, match="no such file"):
        load_ds_config(tmp_path / "none.json")
