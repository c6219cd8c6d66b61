"""`sf2 study` on a small set: every run once, tables, files, and going on."""

import csv
import json

import pytest
import yaml

from sf2cli.study.spec import load_study
from tests.command import sf2
from tests.pictures import noise, stored, write_set
from tests.training.small import CONFIGS, write_place

STUDIES = sorted((CONFIGS / "studies").glob("*.yaml"))
STUDY = {
    "name": "small",
    "recipe": "recipe.yaml",
    "deepspeed": "ds.json",
    "test": "unseen",
    "seeds": [1, 2],
    "compare": "loss",
    "baseline": "cosface",
    "axes": {
        "loss": {
            "sphereface2": {},
            "cosface": {"head": {"loss": "cosface", "scale": 16, "margin": 0.2}},
        }
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = write_place(tmp_path_factory.mktemp("study"))
    pictures = [stored(noise(16, 16, 1, 1000 + i)) for i in range(24)]
    write_set(place / "unseen", [pictures[i::4] for i in range(4)])
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return place


@pytest.fixture(scope="module")
def done(place):
    found = sf2("study", "study.yaml", "--jobs", "2", cwd=place)
    assert found.code == 0, found.err
    return found


def test_every_run_is_measured_and_compared(place, done):
    assert "sphereface2" in done.out
    assert "EER" in done.out
    folder = place / "studies" / "small"
    rows = list(csv.DictReader((folder / "study.csv").open()))
    assert [(row["loss"], row["seed"]) for row in rows] == [
        ("sphereface2", "1"),
        ("sphereface2", "2"),
        ("cosface", "1"),
        ("cosface", "2"),
    ]
    ours, theirs = json.loads((folder / "study.json").read_text())["tables"][0]["rows"]
    assert (ours["option"], theirs["option"]) == ("sphereface2", "cosface")
    for row in (ours, theirs):
        values = [float(r["EER"]) for r in rows if r["loss"] == row["option"]]
        assert row["statistics"]["EER"]["mean"] == pytest.approx(sum(values) / 2)
    difference = ours["statistics"]["EER"]["difference"]["mean"]
    means = [row["statistics"]["EER"]["mean"] for row in (ours, theirs)]
    assert difference == pytest.approx(means[0] - means[1], abs=1e-9)
    assert theirs["statistics"]["EER"]["difference"] is None
    page = (folder / "study.html").read_text()
    assert page.count("<img ") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_what_is_done_is_not_done_again_and_what_is_changed_is(place, done):
    again = sf2("study", "study.yaml", cwd=place)
    assert (again.code, again.out) == (0, done.out)
    result = place / "studies/small/runs/cosface/seed-2/result.json"
    result.unlink()
    more = sf2("study", "study.yaml", "--json", cwd=place)
    assert more.code == 0, more.err
    assert "3 runs are there already" in more.err
    assert json.loads(more.out)["study"]["name"] == "small"


def test_a_run_that_fails_is_named_and_the_others_are_kept(place, done):
    axes = {"loss": {**STUDY["axes"]["loss"], "wrong": {"head.r": -1}}}
    (place / "wrong.yaml").write_text(yaml.safe_dump({**STUDY, "axes": axes}, sort_keys=False))
    found = sf2("study", "wrong.yaml", cwd=place)
    assert found.code == 1
    assert "2 of 2 runs failed; the first: wrong, seed 1: exit status 1: error: recipe" in found.err
    assert "head.r" in found.err
    assert len(list((place / "studies/small/runs").rglob("result.json"))) == 4


@pytest.mark.parametrize("path", [p for p in STUDIES if p.name != "glyphs.yaml"], ids=str)
def test_every_run_of_a_study_that_ships_has_a_recipe(path):
    from sf2cli.recipe import load_recipe

    study = load_study(path)
    for cell in study.cells():
        overrides = tuple(f"{name}={json.dumps(value)}" for name, value in cell.changes.items())
        load_recipe(study.recipe, overrides)
