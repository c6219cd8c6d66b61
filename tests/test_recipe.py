import re

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.recipe import dump_recipe, load_recipe

MINIMAL = """
name: tiny
data: {shards: shards/x}
backbone: {name: sfnet4}
schedule: {steps: 10}
"""


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert (recipe.head.lam, recipe.head.r, recipe.head.m, recipe.head.t) == (0.7, 40, 0.4, 3)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (0.1, 5e-4)


def test_dump_reads_back_equal(tmp_path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


def test_overrides(tmp_path):
    recipe = load_recipe(
        write(tmp_path, MINIMAL), ("optimizer.lr=0.05", "head.lambda=0.8", "seed=3")
    )
    assert (recipe.optimizer.lr, recipe.head.lam, recipe.seed) == (0.05, 0.8, 3)


def test_a_run_that_starts_from_another_has_the_curriculum_that_is_asked_for(tmp_path):
    start = MINIMAL + "start: {run: runs/x}\n"
    recipe = load_recipe(write(tmp_path, start))
    assert recipe.head.curriculum is None
    # And says so, so that it has none either when it goes on.
    assert "curriculum: null" in dump_recipe(recipe)
    asked = load_recipe(write(tmp_path, start + "head: {curriculum: {r: 20}}\n"))
    assert asked.head.curriculum.r == 20
    assert load_recipe(write(tmp_path, start + "head: {loss: normface}\n")).head.loss == "normface"


def test_a_curriculum_below_variant_ms_factor_is_named(tmp_path):
    head = "head={variant: M, m: 1.7, curriculum: {m: 0.5}}"
    with pytest.raises(Sf2Error, match=r"curriculum\.m is 0\.5; variant M takes a factor >= 1"):
        load_recipe(write(tmp_path, MINIMAL), (head,))


@pytest.mark.parametrize("override", ["lr", "=1", "optimizer.=1", "name.x=1", "seed=["])
def test_bad_overrides_are_named(tmp_path, override):
    with pytest.raises(Sf2Error, match="--set"):
        load_recipe(write(tmp_path, MINIMAL), (override,))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (MINIMAL + "colour: red\n", "unknown field colour"),
        (MINIMAL + "head: {margin: 1}\n", "unknown field head.margin"),
        (MINIMAL + "head: {lambda: 1.5}\n", "head.lambda.*found 1.5"),
        (MINIMAL + "batch_size: 0\n", "batch_size.*found 0"),
        (MINIMAL.replace("steps: 10", "steps: 10, epochs: 2"), "exactly one of epochs and steps"),
        (MINIMAL.replace("shards/x", "shards/x, image_size: 100"), "image_size"),
        (MINIMAL.replace("name: tiny", "name: ../up"), "name"),
        (MINIMAL + "optimizer: {lr: .inf}\n", "optimizer.lr.*finite.*found inf"),
        (MINIMAL + "head: {loss_weight: .nan}\n", "head.loss_weight.*found nan"),
        (MINIMAL + "batch_size: 10000000000\n", "batch_size.*1048576.*found 10000000000"),
        (MINIMAL.replace("sfnet4", "sfnet4, embedding_size: 10000000"), "embedding_size.*16384"),
        (MINIMAL + "head: {variant: M, m: 1.7, curriculum: {m: 0.5}}\n", "curriculum.m is 0.5.*M"),
        (MINIMAL + "head: {curriculum: {m: 0.5}}\n", "curriculum.m is 0.5.*grow to head.m 0.4"),
        (MINIMAL + "head: {r: 5}\n", "curriculum.r is 10.*grow to head.r 5.*curriculum: null"),
        (MINIMAL + "head: {loss: arcface, margin: 4}\n", "margin is 4.*arcface takes an angle"),
        ("", "expected a mapping"),
        ("a: [", "not YAML"),
        ("name: tiny\n", "data is missing"),
    ],
)
def test_mistakes_name_the_field_and_the_value(tmp_path, text, named):
    with pytest.raises(Sf2Error, match=named):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("optimiser.lr", "optimizer"),
        ("lr", "optimizer.lr"),
        ("data.batch_size", "batch_size"),
        ("data.augment.croop", "data.augment.crop"),
        ("validation.set", "validation.sets"),
        ("head.lamda", "head.lambda"),
        ("head.curriculum.shar", "head.curriculum.share"),
    ],
)
def test_a_misspelt_field_is_told_what_it_may_mean(tmp_path, field, meant):
    with pytest.raises(Sf2Error, match=rf"did you mean {re.escape(meant)}\?"):
        load_recipe(write(tmp_path, MINIMAL), (f"{field}=1",))


def test_only_the_fields_of_the_heads_own_loss_are_proposed(tmp_path):
    # SphereFace2 has no margin, and no scale; what else might they mean?
    for field in ("margin", "scale"):
        with pytest.raises(Sf2Error, match=rf"unknown field head\.{field} \(found 1\)$"):
            load_recipe(write(tmp_path, MINIMAL), (f"head.{field}=1",))
    with pytest.raises(Sf2Error, match=r"did you mean head\.margin\?"):
        load_recipe(write(tmp_path, MINIMAL), ("head={loss: arcface, margn: 1}",))


def test_missing_file(tmp_path):
    with pytest.raises(Sf2Error, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
