"""`sf2 study` on a small set: every run once, tables, files, and going on."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml

from sf2cli.study import run
from sf2cli.study.spec import load_study
from sf2cli.training import forward
from tests.command import running, sf2
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


def test_what_the_recipe_or_a_set_changes_is_done_again(place, done, tmp_path):
    one = {**STUDY, "seeds": [1], "axes": {"loss": {"cosface": STUDY["axes"]["loss"]["cosface"]}}}
    (place / "one.yaml").write_text(yaml.safe_dump(one, sort_keys=False))
    shutil.copytree(place / "studies/small/runs/cosface/seed-1", tmp_path / "runs/cosface/seed-1")
    recipe, manifest = place / "recipe.yaml", place / "unseen" / "manifest.json"
    before = {path: path.read_text() for path in (recipe, manifest)}
    try:
        recipe.write_text(before[recipe].replace("steps: 4", "steps: 3"))
        manifest.write_text(before[manifest] + "\n")
        found = sf2("study", "one.yaml", "--out", tmp_path, cwd=place)
    finally:
        for path, content in before.items():
            path.write_text(content)
    assert found.code == 0, found.err
    assert "1 of the runs again, for this has changed: schedule.steps of the recipe" in found.err
    assert "the test set" in found.err
    assert len((tmp_path / "runs/cosface/seed-1/run/metrics.jsonl").read_text().splitlines()) >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "nowhere"}, "test nowhere"),
        ({"axes": {"loss": {"cosface": {}, "b": {"head.r": -1}}}}, "b: recipe recipe.yaml"),
        ({"axes": {"loss": {"cosface": {}, "b": {"data.shards": "no"}}}}, "error: b: "),
    ],
)
def test_what_is_wrong_is_said_before_the_first_run(place, tmp_path, changes, message):
    (place / "early.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    found = sf2("study", "early.yaml", "--out", tmp_path / "out", cwd=place)
    assert (found.code, message in found.err) == (1, True), found.err
    assert not (tmp_path / "out").exists()


def test_a_precision_that_the_machine_is_slow_at_is_told_once(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(forward, "slowdown", lambda dtype, device: 9.0)
    monkeypatch.setattr(run, "_each", lambda *_: iter(()))
    loss = {name: {**fields, "precision": "bf16"} for name, fields in STUDY["axes"]["loss"].items()}
    slow = {**STUDY, "name": "slow", "axes": {"loss": loss}}
    (place / "slow.yaml").write_text(yaml.safe_dump(slow, sort_keys=False))
    run.run_study(Path("slow.yaml"), None, 1, [])
    told = capsys.readouterr().err
    assert told.count("precision bf16: matrix products take 9 times as long as in fp32") == 1


def test_a_run_that_fails_is_named_and_the_others_are_kept(place, done):
    axes = {"loss": {**STUDY["axes"]["loss"], "wrong": {"optimizer.lr": 1e30}}}
    (place / "wrong.yaml").write_text(yaml.safe_dump({**STUDY, "axes": axes}, sort_keys=False))
    found = sf2("study", "wrong.yaml", "--jobs", "2", cwd=place)
    assert found.code == 1
    assert "2 of 2 runs failed; the first: wrong, seed 1: exit status 1: error:" in found.err
    folder = place / "studies/small"
    assert len(list((folder / "runs").rglob("result.json"))) == 4
    page = (folder / "study.html").read_text()
    assert "wrong, seed 1 failed: exit status 1" in page
    assert "0 of 2" in page
    assert "2 seeds are few" in page
    for told in ("sf2 study wrong.yaml", "deepspeed", "cores", "±"):
        assert told in page


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_run_outlives_its_study_and_only_one_study_writes(place, tmp_path, number):
    (place / "long.yaml").write_text(
        yaml.safe_dump(
            {**STUDY, "axes": {"loss": {"cosface": {"schedule.steps": 10**6}}}}, sort_keys=False
        )
    )
    command = ("study", "long.yaml", "--jobs", "2", "--out", tmp_path)
    with running([{}], *command, cwd=place) as study:
        logs = [tmp_path / f"runs/cosface/seed-{seed}/run/metrics.jsonl" for seed in (1, 2)]
        wait_for(lambda: all(log.exists() for log in logs))
        children = psutil.Process(study.processes[0].pid).children()
        assert len(children) == 2
        if number == signal.SIGTERM:
            second = sf2(*command, cwd=place)
            assert second.code == 1
            assert f"study folder {tmp_path}: another study is writing to it" in second.err
        os.kill(study.processes[0].pid, number)
        if number != signal.SIGKILL:
            ended = study.end()[0]
            assert ended.code == 128 + number
            assert "Go on with the same command" in ended.err
        gone = lambda child: not child.is_running() or child.status() == "zombie"  # noqa: E731
        wait_for(lambda: all(map(gone, children)))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("path", [p for p in STUDIES if p.name != "glyphs.yaml"], ids=str)
def test_every_run_of_a_study_that_ships_has_a_recipe(path):
    from sf2cli.recipe import load_recipe

    study = load_study(path)
    for cell in study.cells():
        fields = cell.with_seed(1).items()
        overrides = tuple(f"{name}={json.dumps(value)}" for name, value in fields)
        load_recipe(study.recipe, overrides)


def test_a_study_of_ranks_trains_on_them_and_tells_their_throughput(place):
    ranks = {"ranks": {"one": {"nproc": 1}, "two": {"nproc": 2}}}
    changes = {"name": "ranks", "seeds": [1], "compare": "ranks", "baseline": "one", "axes": ranks}
    (place / "ranks.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    found = sf2("study", "ranks.yaml", cwd=place)
    assert found.code == 0, found.err
    assert "images/s" in found.out
    one, two = csv.DictReader((place / "studies" / "ranks" / "study.csv").open())
    assert float(one["images/s"]) > 0
    assert float(two["images/s"]) > 0
    run = place / "studies" / "ranks" / "runs" / "two" / "seed-1" / "run"
    assert "nproc" not in (run / "recipe.yaml").read_text()
    assert len(list(run.glob("checkpoints/*/head/*.safetensors"))) == 2
