"""Every file in configs/ is good: recipes parse, and each ds_*.json trains."""

import json

import pytest

from sf2cli.recipe import dump_recipe, load_recipe
from sf2cli.training.ds_config import fill_ds_config, load_ds_config
from tests.command import sf2
from tests.training.small import CONFIGS, STEPS, is_only_sf2, losses_of, write_place

RECIPES = sorted(CONFIGS.glob("*.yaml"))
DS_FILES = sorted(CONFIGS.glob("ds_*.json"))


def test_nothing_in_configs_is_left_untested():
    assert RECIPES
    assert DS_FILES
    # tests/data/sources/test_fonts.py has the settings and the list of faces.
    # tests/study/test_study.py parses the studies, tests/test_published_recipes.py the recipes.
    folders = {CONFIGS / "glyphs", CONFIGS / "recipes", CONFIGS / "studies"}
    assert {*RECIPES, *DS_FILES} | folders == set(CONFIGS.iterdir())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_fits_every_ds_file(path, tmp_path):
    recipe = load_recipe(path)
    written = tmp_path / "recipe.yaml"
    written.write_text(dump_recipe(recipe))
    assert load_recipe(written) == recipe
    for ds in DS_FILES:
        filled = fill_ds_config(load_ds_config(ds), recipe, 1, ds)
        assert filled["train_batch_size"] == recipe.batch_size


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def reference(place):
    """The losses without ZeRO and without accumulation."""
    done = sf2("train", "recipe.yaml", "--deepspeed", CONFIGS / "ds_zero0.json", cwd=place)
    assert done.code == 0, done.err
    return losses_of(place / "runs" / "tiny")


@pytest.mark.parametrize("path", DS_FILES, ids=lambda path: path.stem)
def test_ds_file_trains(path, place, reference):
    config = json.loads(path.read_text())
    precision = "fp16" if "fp16" in config else "fp32"
    done = sf2(
        "train",
        "recipe.yaml",
        *("--deepspeed", path, "--out", path.stem, "--set", f"precision={precision}"),
        cwd=place,
    )
    assert done.code == 0, done.err
    assert (done.out, is_only_sf2(done.err)) == ("", True), done.err
    losses = losses_of(place / path.stem)
    same_steps = not {"optimizer", "gradient_clipping", "fp16"} & set(config)
    if same_steps and config["gradient_accumulation_steps"] == "auto":
        assert losses == pytest.approx(reference, rel=1e-5)
    else:
        # AdamW and clipping take other steps, and BatchNorm sees smaller micro batches, so only the
        # length can be the same.
        assert len(losses) == STEPS
        assert losses != pytest.approx(reference, rel=1e-5)
