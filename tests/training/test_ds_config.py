import json

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe
from sf2cli.training.ds_config import fill_ds_config, for_deepspeed, load_ds_config
from sf2cli.training.ds_keys import FP16_HONOURED, HONOURED, REFUSED, ZERO_HONOURED

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
    assert (filled["bf16"]["enabled"], filled["fp16"]["enabled"]) == (False, False)
    assert filled["gradient_clipping"] == 0
    bf16 = RECIPE.model_copy(update={"precision": "bf16"})
    assert fill_ds_config(config, bf16, 3, path)["bf16"]["enabled"] is True


def test_an_optimizer_takes_what_is_auto_from_the_recipe(tmp_path):
    params = {"lr": "auto", "betas": "auto", "eps": 1e-6}
    path, config = load(tmp_path, {"optimizer": {"type": "adamw", "params": params}})
    found = fill_ds_config(config, RECIPE, 1, path)["optimizer"]
    expected = {"lr": 0.1, "weight_decay": 5e-4, "eps": 1e-6}
    assert found == {"type": "AdamW", "params": expected}


def test_deepspeed_gets_neither_clipping_nor_precision(tmp_path):
    path, config = load(tmp_path, {"gradient_clipping": 1, "fp16": {"loss_scale": 8}})
    fp16 = RECIPE.model_copy(update={"precision": "fp16"})
    filled = fill_ds_config(config, fp16, 1, path)
    assert (filled["gradient_clipping"], filled["fp16"]["loss_scale"]) == (1, 8)
    passed = for_deepspeed(filled, cuda=False)
    assert passed["gradient_clipping"] == 0
    assert not {"fp16", "bf16"} & set(passed)


class Watched(dict):
    """A config that remembers what DeepSpeed looks for in it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.looked_for = set()

    def __contains__(self, key):
        self.looked_for.add(key)
        return super().__contains__(key)

    def __getitem__(self, key):
        self.looked_for.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.looked_for.add(key)
        return super().get(key, default)

    def keys(self):
        return self

    def __copy__(self):
        return self


def test_every_key_that_deepspeed_knows_is_honoured_or_refused():
    from deepspeed.runtime.config import DeepSpeedConfig
    from deepspeed.runtime.precision_config import DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    watched = Watched({"train_batch_size": 1})
    DeepSpeedConfig(watched)
    assert {"optimizer", "fp16", "torch_autocast", "elasticity", "aio"} <= watched.looked_for
    assert watched.looked_for - {*HONOURED, *REFUSED} == set()
    assert not HONOURED & set(REFUSED)
    zero = {field.alias or name for name, field in DeepSpeedZeroConfig.model_fields.items()}
    assert zero > ZERO_HONOURED
    assert set(DeepSpeedFP16Config.model_fields) > FP16_HONOURED


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_each_refused_key_is_named_with_its_reason(key, tmp_path):
    with pytest.raises(Sf2Error, match=f": {key}: sf2 cannot honour it: "):
        load(tmp_path, {key: {"enabled": True}})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ({"optimizer": {"type": "OneBitAdam"}}, "optimizer.type: expected Adam, AdamW, .*OneBit"),
        ({"optimizer": {"type": "Adam", "legacy_fusion": True}}, "optimizer.legacy_fusion: sf2"),
        ({"optimizer": {"type": "Adam", "params": {"lr": -1}}}, "params.lr: expected a number"),
        ({"optimizer": {"type": "Adam", "params": {"max_grad_norm": 1}}}, "is gradient_clipping"),
        ({"optimizer": {"type": "Lamb"}, "zero_optimization": {"stage": 1}}, "whole tensors"),
        ({"gradient_clipping": "tight"}, "gradient_clipping: expected the largest norm"),
        ({"fp16": {"auto_cast": True}}, "fp16.auto_cast: sf2 cannot honour"),
        ({"fp16": {"hysteresis": 0}}, "fp16.hysteresis: expected a number of 1 or more, found 0"),
        ({"bf16": {"bf16_optimizer_states": True}}, "bf16.bf16_optimizer_states: sf2 cannot"),
        ({"colour": "red"}, "colour: not a setting of DeepSpeed"),
        ({"zero_optimization": {"stage": 4}}, "stage: expected 0, 1, 2 or 3, found 4"),
        ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, "offload_param: sf2 cannot"),
        ({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}, "expected cpu or none"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "nothing to offload"),
        ({"zero_optimization": {"zero_hpz_partition_size": 2}}, "zero_hpz_partition_size: sf2"),
        ({"zero_optimization": 2}, "zero_optimization: expected an object"),
        ({"bf16": True}, "bf16: expected"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, content, named):
    with pytest.raises(Sf2Error, match=named):
        load(tmp_path, content)


def test_refused_sections_that_are_off_are_let_through(tmp_path):
    load(tmp_path, {"fp16": {"enabled": False}, "flops_profiler": {"enabled": False}, "comet": {}})


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
