"""`sf2 train --resume`: stopped anywhere, on other ranks, with damaged checkpoints and changes."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sf2cli.backbones import registry
from sf2cli.backbones.sfnet import LAYOUTS, SFNet
from sf2cli.data.packed import PackedSet
from sf2cli.recipe import load_recipe
from sf2cli.training.ds_config import fill_ds_config
from sf2cli.training.loop import Run
from sf2cli.training.world import World
from tests.command import TIMEOUT_S, running, sf2, sf2_ranks
from tests.spawn import run_ranks
from tests.training.small import (
    CONFIGS,
    final_bytes,
    losses_of,
    metrics_of,
    ranks,
    write_place,
)

TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json")
SAVED, STEPS = 2, 4


def settings(*values):
    return [part for value in values for part in ("--set", value)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("resume"))


def train(count, *args, cwd):
    """What the first of `count` ranks printed, all of which end well."""
    ended = sf2_ranks(ranks(count), *args, cwd=cwd)
    for done in ended:
        assert done.code == 0, done.err
    return ended[0].err


def cut(run, step, name):
    """A copy of a finished run as it stood at a checkpoint."""
    copy = shutil.copytree(run, run.parent / name)
    shutil.rmtree(copy / "model")
    for checkpoint in (copy / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


# Without BatchNorm a step is the same on any number of ranks.
SAME_ON_ANY = settings(
    "backbone.name=sfnet4",
    "batch_size=12",
    "optimizer.lr=0.002",
    f"schedule.steps={STEPS}",
    f"checkpoint.every_steps={SAVED}",
)


@pytest.fixture(scope="module")
def wholes(place):
    """A run that never changes, on 1, 2 and 3 ranks."""
    for count in (1, 2, 3):
        train(count, *TRAIN, *SAME_ON_ANY, "--out", f"whole-{count}", cwd=place)
    return place


def state_of(run):
    """Weights and momentum of backbone and head after the last step."""
    last = run / "checkpoints" / f"step-{STEPS:08d}"
    state = {}
    for name in ("backbone", "momentum"):
        state |= {f"{name} {k}": v for k, v in load_file(last / f"{name}.safetensors").items()}
    files = [load_file(path) for path in sorted((last / "head").glob("rows-*"))]
    for name in ("weight", "momentum"):
        state[f"head {name}"] = torch.cat([file[name] for file in files])
    head = json.loads((last / "head" / "head.json").read_text())
    state |= {name: torch.tensor(head[name]) for name in ("bias", "bias_momentum")}
    return state


@pytest.mark.parametrize(
    ("before", "after", "stage"), [(1, 2, 1), (2, 1, 1), (2, 3, 1), (3, 2, 1), (2, 2, 3)]
)
def test_a_run_goes_on_on_other_ranks_and_another_zero_stage(before, after, stage, wholes):
    whole = wholes / f"whole-{before}"
    copy = cut(whole, SAVED, f"{before}-to-{after}-stage-{stage}")
    ds = ("--deepspeed", CONFIGS / f"ds_zero{stage}.json")
    said = train(
        after, "train", "recipe.yaml", *ds, *SAME_ON_ANY, "--out", copy, "--resume", cwd=wholes
    )
    assert f"going on from {copy}/checkpoints/step-{SAVED:08d} (step {SAVED} of {STEPS})" in said
    assert f"on {after} rank(s), ZeRO {stage}" in said
    assert losses_of(copy) == pytest.approx(losses_of(whole), rel=1e-6)
    found, expected = state_of(copy), state_of(whole)
    saved = load_file(copy / "checkpoints" / f"step-{SAVED:08d}" / "backbone.safetensors")
    moved = [
        (expected[f"backbone {name}"] - value).abs().max().item() for name, value in saved.items()
    ]
    assert max(moved) > 1e-4
    for name, value in expected.items():
        unit = value.abs().max().clamp(min=1.0)
        assert ((found[name] - value).abs().max() / unit).item() < 1e-6, name


@pytest.mark.parametrize(("stage", "precision"), [(0, "bf16"), (2, "fp32"), (3, "bf16")])
def test_every_zero_stage_goes_on_to_the_last_bit(stage, precision, place):
    more = settings(f"precision={precision}", "checkpoint.every_steps=2")
    ds = ("--deepspeed", CONFIGS / f"ds_zero{stage}.json")
    args = ("train", "recipe.yaml", *ds, *more)
    train(2, *args, "--out", f"stage-{stage}", cwd=place)
    copy = cut(place / f"stage-{stage}", SAVED, f"stage-{stage}-on")
    train(2, *args, "--out", copy, "--resume", cwd=place)
    assert metrics_of(copy) == metrics_of(place / f"stage-{stage}")
    assert final_bytes(copy) == final_bytes(place / f"stage-{stage}")


def test_a_run_told_to_stop_saves_on_all_ranks_and_goes_on_exactly(place):
    values = ("backbone.name=sfnet4_slim_bn", "schedule.steps=120", "checkpoint.every_steps=1000")
    args = (*TRAIN, *settings(*values))
    train(2, *args, "--out", "unstopped", cwd=place)
    run, resume, reached = place / "stopped", [], 0
    # Whichever rank hears of it; SLURM's time limit and an early warning are these two.
    for number, told in ((signal.SIGUSR1, [0]), (signal.SIGTERM, [1]), (signal.SIGINT, [0, 1])):
        with running(ranks(2), *args, "--out", run, *resume, cwd=place) as going:
            wait_for(lambda more=reached + 2: len(metrics_of(run)) > more, going)
            for rank in told:
                os.kill(going.processes[rank].pid, number)
            first, second = going.end()
        assert (first.code, second.code) == (128 + number, 128 + number), first.err
        reached = int(max((run / "checkpoints").glob("step-*")).name.removeprefix("step-"))
        assert first.err.endswith(
            f"error: stopped by {number.name} after step {reached} of 120, which is saved\n"
            "  Go on with --resume.\n"
        )
        assert second.err == ""
        assert [line["step"] for line in metrics_of(run)] == [*range(1, reached + 1)]
        resume = ["--resume"]
    assert reached < 120
    train(2, *args, "--out", run, "--resume", cwd=place)
    assert metrics_of(run) == metrics_of(place / "unstopped")
    assert final_bytes(run) == final_bytes(place / "unstopped")


def wait_for(reached, going):
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if reached():
                return
        except (OSError, ValueError):
            # Not there yet, or a line half written.
            pass
        assert time.monotonic() < deadline
        assert all(process.exitcode is None for process in going.processes), going.end()
        time.sleep(0.005)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _edit(path, name, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


ROWS = "head/rows-000000000-000000005.safetensors"
DAMAGES = {
    "cut short": (ROWS, lambda path: os.truncate(path, 100)),
    "bit flipped": (ROWS, _flip),
    "gone": (ROWS, lambda path: path.unlink()),
    "of another head": (ROWS, lambda path: shutil.copy(_first_step(path) / ROWS, path)),
    "of other classes": ("head/head.json", lambda path: _edit(path, "num_classes", 6)),
    "of an older head": ("head/head.json", lambda path: _edit(path, "version", 1)),
    "backbone flipped": ("backbone.safetensors", _flip),
    "momentum cut": ("momentum.safetensors", lambda path: os.truncate(path, 100)),
    "of an older sf2": ("state.json", lambda path: _edit(path, "version", 1)),
    "no state": ("state.json", lambda path: path.unlink()),
}


def _first_step(path):
    (checkpoints,) = (above for above in path.parents if above.name == "checkpoints")
    return checkpoints / "step-00000001"


def test_damaged_checkpoints_are_named_and_the_one_before_them_goes_on(place):
    last = len(DAMAGES) + 1
    values = (f"schedule.steps={last}", "checkpoint.every_steps=1", "checkpoint.keep_last=100")
    args = (*TRAIN, *settings(*values, "backbone.name=sfnet4_slim_bn"))
    train(1, *args, "--out", "sound", cwd=place)
    run = shutil.copytree(place / "sound", place / "damaged")
    files = []
    for step, (name, damage) in enumerate(DAMAGES.values(), start=2):
        files.append(run / "checkpoints" / f"step-{step:08d}" / name)
        damage(files[-1])
    said = train(1, *args, "--out", run, "--resume", cwd=place)
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(DAMAGES)
    for path, line in zip(reversed(files), warnings, strict=True):
        assert line.startswith(f"warning: {path}: "), line
        assert line.endswith("; trying the checkpoint before"), line
    assert f"going on from {run}/checkpoints/step-00000001 (step 1 of {last})" in said
    assert metrics_of(run) == metrics_of(place / "sound")
    assert final_bytes(run) == final_bytes(place / "sound")
    shutil.rmtree(run / "checkpoints" / "step-00000001")
    for step in range(2, last + 1):
        (run / "checkpoints" / f"step-{step:08d}" / "state.json").write_text("{")
    done = sf2(*args, "--out", run, "--resume", cwd=place)
    assert done.code == 1
    assert f"no checkpoint in {run}/checkpoints is whole; of the newest: " in done.err


def test_the_newest_checkpoints_are_kept(place):
    values = ("schedule.steps=5", "checkpoint.every_steps=1", "checkpoint.keep_last=2")
    for background in ("true", "false"):
        out = f"kept-{background}"
        more = settings(*values, f"checkpoint.background={background}")
        said = train(1, *TRAIN, *more, "--out", out, cwd=place)
        found = sorted(path.name for path in (place / out / "checkpoints").iterdir())
        assert found == ["step-00000004", "step-00000005"]
        assert said.count("checkpoint: step ") == 5
        lines = map(json.loads, (place / out / "metrics.jsonl").read_text().splitlines())
        saved = [line for line in lines if "checkpoint_s" in line]
        assert [line["step"] for line in saved] == [1, 2, 3, 4, 5]
        size = sum(path.stat().st_size for path in (place / out).rglob("0000005/*.safetensors"))
        assert all(line["checkpoint_bytes"] > size for line in saved)
        assert all(line["checkpoint_wait_s"] > 0 for line in saved)
    assert final_bytes(place / "kept-true") == final_bytes(place / "kept-false")


@pytest.fixture(scope="module")
def finished(place):
    train(1, *TRAIN, "--out", "finished", cwd=place)
    return place / "finished"


def test_what_a_recipe_may_change_is_named_and_the_rest_refused(finished, place):
    args = (*TRAIN, "--out", finished, "--resume")
    before = (finished / "recipe.yaml").read_text()
    refused = ("batch_size=6", "head.r=30", "optimizer.lr=0.02")
    done = sf2(*args, *settings(*refused), cwd=place)
    assert done.code == 1
    assert done.err == (
        "error: --resume: batch_size is 6, the run has 8; head.r is 30.0, the run has 40.0\n"
        f"  Put back what {finished}/recipe.yaml says, or start a new run with --out.\n"
    )
    assert (finished / "recipe.yaml").read_text() == before
    done = sf2(*args, *settings("schedule.steps=3"), cwd=place)
    assert done.code == 1
    assert f"schedule ends at step 3, {finished}/checkpoints/step-00000004 is further" in done.err
    longer = settings("schedule.steps=5", "optimizer.lr=0.02", "checkpoint.keep_last=9")
    said = train(1, *args, *longer, cwd=place)
    assert "from here on with optimizer.lr 0.01 -> 0.02, schedule.steps 4 -> 5\n" in said
    assert metrics_of(finished)[-1]["lr"] == pytest.approx(0.02 * 0.0954915, rel=1e-5)


def test_changed_shards_are_refused_unless_accepted(place):
    train(1, *TRAIN, "--out", "changing", cwd=place)
    shutil.copytree(place / "set", place / "renamed")
    manifest = place / "renamed" / "manifest.json"
    _edit(manifest, "name", "renamed")
    args = (*TRAIN, *settings("data.shards=renamed"), "--out", "changing", "--resume")
    done = sf2(*args, cwd=place)
    assert done.code == 1
    assert "renamed is not the set that changing/checkpoints/step-00000004 was tr" in done.err
    assert "--accept-changed-shards" in done.err
    train(1, *args, "--accept-changed-shards", cwd=place)
    identities = json.loads(manifest.read_text())["identities"]
    _edit(manifest, "identities", [*reversed(identities)])
    done = sf2(*args, "--accept-changed-shards", cwd=place)
    assert done.code == 1
    assert "--accept-changed-shards: the identities of renamed are not those" in done.err


def _train_with_dropout(place):
    """Losses of a run and of one that goes on, with a backbone that draws random numbers."""

    def dropout(**sizes):
        return torch.nn.Sequential(SFNet(LAYOUTS["sfnet4"], **sizes), torch.nn.Dropout(0.5))

    registry._FACTORIES["dropout"] = dropout
    os.chdir(place)
    changes = ("backbone.name=dropout", "checkpoint.every_steps=2")
    recipe = load_recipe(place / "recipe.yaml", changes)
    ds_config = fill_ds_config({}, recipe, 1, None)
    world = World(0, 1, torch.device("cpu"))
    packed = PackedSet.open(Path(recipe.data.shards))
    Run(place / "drawn", recipe, ds_config, packed).train(world, resume=False)
    copy = cut(place / "drawn", SAVED, "drawn-on")
    torch.manual_seed(99)
    Run(copy, recipe, ds_config, packed).train(world, resume=True)
    return metrics_of(place / "drawn"), metrics_of(copy)


def test_random_numbers_of_the_backbone_go_on(place):
    ((whole, resumed),) = run_ranks(1, _train_with_dropout, place)
    assert resumed == whole
