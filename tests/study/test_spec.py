"""Study files: what they mean, and what is refused."""

import pytest
import yaml

from sf2cli.errors import Sf2Error
from sf2cli.study.spec import load_study

TREE = {
    "name": "small",
    "recipe": "recipe.yaml",
    "deepspeed": "../ds.json",
    "test": "shards/test",
    "seeds": [1, 2],
    "compare": "loss",
    "baseline": "b",
    "axes": {
        "size": {"one": {"x.y": 1, "x.z": 5}, "two": {"x.y": 2}},
        "loss": {"a": {"head": {"loss": "a"}}, "b": {"x.z": 7}},
    },
}


def write(tmp_path, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**TREE, **changes}, sort_keys=False))
    return path


def test_a_cell_for_every_combination_and_the_later_axis_counts(tmp_path):
    study = load_study(write(tmp_path))
    assert [(cell.name, cell.changes) for cell in study.cells()] == [
        ("one, a", {"x.y": 1, "x.z": 5, "head": {"loss": "a"}}),
        ("one, b", {"x.y": 1, "x.z": 7}),
        ("two, a", {"x.y": 2, "head": {"loss": "a"}}),
        ("two, b", {"x.y": 2, "x.z": 7}),
    ]


def test_each_seed_has_its_own_sets(tmp_path):
    axes = {
        "set": {"att": {"data": {"shards": "shards/att-{seed}-train"}}},
        "loss": {"b": {"data.cache": "{seed}", "x.y": [1, "{seed}"]}},
    }
    study = load_study(write(tmp_path, test="shards/att-{seed}-test", axes=axes))
    assert str(study.test_for(7)) == "shards/att-7-test"
    (cell,) = study.cells()
    assert cell.with_seed(7) == {
        "data": {"shards": "shards/att-7-train"},
        "data.cache": "7",
        "x.y": [1, "7"],
        "seed": 7,
    }


def test_recipe_and_deepspeed_are_beside_the_file_and_the_set_is_not(tmp_path):
    study = load_study(write(tmp_path))
    assert study.recipe == tmp_path / "recipe.yaml"
    assert study.deepspeed == tmp_path / "../ds.json"
    assert str(study.test) == "shards/test"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "c"}, "baseline is 'c'; loss has a, b"),
        ({"compare": "colour"}, "compare is 'colour'; the axes are size, loss"),
        ({"seeds": [1, 1]}, "seeds: one stands there twice"),
        ({"seeds": []}, "seeds: List should have at least 1"),
        ({"axes": {"loss": {"../b": {}, "b": {}}}}, "'../b' is no name of an axis or option"),
        ({"axes": {"loss": {"b": {}}, "size": {}}}, "axis size has no option"),
        ({"axes": {"loss": {"b": {"nproc": 0}}}}, "loss b: nproc is 0; expected 1 or more ranks"),
        ({"sedes": [1]}, r"sedes: no field of a study; did you mean seeds\?"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(Sf2Error, match=message):
        load_study(write(tmp_path, **changes))


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(Sf2Error, match="no such file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(Sf2Error, match="not YAML"):
        load_study(tmp_path / "bad.yaml")
