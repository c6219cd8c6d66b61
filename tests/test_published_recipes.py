"""configs/recipes: each says its own commands, and starts on a small set as it says."""

import re
import shlex

import pytest
import torch

from sf2cli.recipe import load_recipe
from sf2cli.training.ds_config import fill_ds_config, load_ds_config
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.forward import slow_precision
from sf2cli.training.world import World
from tests.command import sf2
from tests.pictures import noise, stored, write_set
from tests.spawn import run_ranks
from tests.training.small import CONFIGS, losses_of

RECIPES = sorted((CONFIGS / "recipes").glob("*.yaml"))
IDENTITIES, BATCH, STEPS = 4, 2, 2
# One of each network; the other recipes have a slim one here, and their own in the slow test.
WHOLE = ("vggface2_sfnet20", "casia_iresnet50", "webface42m_iresnet100")
SLIM = ("backbone.name=sfnet4_slim_bn",)
SHORT = (
    *("data.shards=set", "data.workers=0", f"batch_size={BATCH}"),
    *("schedule.epochs=null", f"schedule.steps={STEPS}", "schedule.warmup_steps=1"),
)


def named(path):
    return path.stem


def commands(path):
    """The commands of a recipe's head comment, by what of sf2 they run."""
    text = path.read_text().replace(" \\\n#  ", "")
    lines = re.findall(r"^#   (sf2 .*)$", text, flags=re.M)
    return {line.split()[1]: shlex.split(line)[2:] for line in lines}


def ds_file(path):
    train = commands(path)["train"]
    return CONFIGS.parent / train[train.index("--deepspeed") + 1]


def check_losses(losses):
    assert len(losses) == STEPS
    assert all(0 < loss < 100 for loss in losses), losses


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_the_commands_in_a_recipe_are_its_own(path):
    said, recipe = commands(path), load_recipe(path)
    assert recipe.name == path.stem
    assert said["pack"][1] == recipe.data.shards
    assert said["train"][0] == f"configs/recipes/{path.name}"
    precision = load_ds_config(ds_file(path)).get(recipe.precision, {"enabled": "auto"})
    assert precision["enabled"] == "auto"


def test_the_published_rates_fall_at_the_published_steps():
    steps = {
        recipe.name: [round(point * recipe.schedule.steps) for point in recipe.schedule.milestones]
        for recipe in map(load_recipe, RECIPES)
        if recipe.schedule.kind == "step" and recipe.schedule.steps
    }
    assert steps == {
        "ms1mv2_iresnet100": [80_000, 140_000, 200_000],
        "vggface2_sfnet20": [40_000, 60_000],
        "vggface2_sfnet64": [40_000, 60_000],
    }


def _take_steps():
    """The losses of the first steps by each recipe and its DeepSpeed file."""
    losses = {}
    for path in RECIPES:
        settings = (*SHORT, *(() if path.stem in WHOLE else SLIM))
        recipe = load_recipe(path, settings)
        if slow_precision(recipe.precision, torch.device("cpu")) is not None:
            # Of minutes a step, on a processor without products of that kind.
            recipe = load_recipe(path, (*settings, "precision=fp32"))
        config = fill_ds_config(load_ds_config(ds_file(path)), recipe, 1, None)
        world = World(0, 1, torch.device("cpu"))
        engine = TrainingEngine(recipe, new_backbone(recipe), config, world, IDENTITIES, STEPS)
        images = torch.randint(0, 256, (BATCH, 3, 112, 112), dtype=torch.uint8)
        losses[path.stem] = []
        for step in range(STEPS):
            engine.prepare(recipe.optimizer.lr, step / STEPS)
            losses[path.stem].append(engine.step(images, torch.arange(BATCH)).item())
    return losses


def test_every_recipe_starts():
    losses = run_ranks(1, _take_steps)[0]
    assert set(losses) == {path.stem for path in RECIPES}
    for found in losses.values():
        check_losses(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_its_command_trains_the_whole_recipe(path, tmp_path):
    faces = [stored(noise(112, 112, 3, seed)) for seed in range(BATCH * STEPS)]
    write_set(tmp_path / "set", [faces[i::IDENTITIES] for i in range(IDENTITIES)])
    # A CPU takes minutes for a step of this size in fp16, which the slim network has trained in.
    fp16 = load_recipe(path).precision == "fp16"
    settings = (*SHORT, *(("precision=bf16",) if fp16 else ()))
    flags = [word for setting in settings for word in ("--set", setting)]
    done = sf2("train", path, "--deepspeed", ds_file(path), "--out", "run", *flags, cwd=tmp_path)
    assert done.code == 0, done.err
    check_losses(losses_of(tmp_path / "run"))
