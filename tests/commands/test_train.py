"""`sf2 train` as a user types it: every launcher, resuming, settings, and every mistake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sf2cli.backbones.saved import load_model
from sf2cli.heads.fused import FusedStep
from sf2cli.recipe import ScheduleRecipe
from sf2cli.training.schedule import lr_factor
from tests.command import sf2, sf2_ranks
from tests.training.small import (
    BATCH,
    CONFIGS,
    IDENTITIES,
    STEPS,
    final_bytes,
    free_port,
    is_only_sf2,
    losses_of,
    metrics_of,
    ranks,
    write_place,
)

TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json")
RESUMED_STEPS, RESUMED_FROM = 6, 2


def slurm_ranks(tasks=2):
    """What srun sets for the tasks of a job."""
    common = {"SLURM_STEP_ID": "0", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}
    common["SLURM_NTASKS"] = str(tasks)
    # The job's number makes the port; a free one is asked of the system.
    common["SLURM_JOB_ID"] = str(int(free_port()) - 20000)
    return [{**common, "SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)} for r in range(tasks)]


def typed(*words, cwd):
    """Run a command line with this environment's programs on the path; its error text."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with recipe, packed set and ds.json, in which all of the runs below train."""
    return write_place(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def nproc_run(place):
    """`sf2 train --nproc 2` under ZeRO 1, and what it printed."""
    done = typed("sf2", *TRAIN, "--nproc", "2", "--json", cwd=place)
    return place / "runs" / "tiny", done


def test_nproc_trains_and_prints_the_summary(nproc_run):
    run, done = nproc_run
    summary = json.loads(done.stdout)
    assert summary["steps"] == STEPS
    assert summary["loss"] == losses_of(run)[-1]
    assert summary["model"] == "runs/tiny/model"
    assert [line["step"] for line in metrics_of(run)] == [*range(1, STEPS + 1)]
    first, last, saved = done.stderr.splitlines()
    assert "5 identities, 30 images, 4 steps of 8 on 2 rank(s), ZeRO 1, fp32; head: f" in first
    kernels = "c++ in one call" if FusedStep.of(torch.float32, 32) else "c++"
    assert f"float32 rows, float32 products, {kernels}, all negatives" in first
    assert first.endswith("all negatives, r 10 to 40 over 2 steps")
    assert last.startswith(f"train: {STEPS}/{STEPS} steps")
    assert saved.startswith(f"checkpoint: step {STEPS}, ")


def test_the_model_is_the_last_checkpoints_backbone(nproc_run):
    run, _ = nproc_run
    module, card = load_model(run)
    assert card.head["num_classes"] == IDENTITIES
    assert card.training["world_size"] == 2
    saved = load_file(run / "checkpoints" / f"step-{STEPS:08d}" / "backbone.safetensors")
    state = module.state_dict()
    assert set(state) == set(saved)
    assert all(state[name].equal(value) for name, value in saved.items())


def test_the_run_is_evaluated(nproc_run, place):
    done = sf2("eval", nproc_run[0], "--set", "set", "--out", "report", "--json", cwd=place)
    assert done.code == 0, done.err
    report = json.loads((place / "report" / "report.json").read_text())
    assert report["sets"][0]["name"] == "set"
    people, images = report["warnings"]
    assert "5 of its 5 identities have the name of one the model was trained on" in people
    assert "30 of 30 images looked at are in the training set" in images


@pytest.mark.parametrize(
    ("ds", "words"),
    [
        ("ds_zero2", ["torchrun", "--nproc-per-node=2", "--no-python", "--master-port=PORT"]),
        ("ds_zero3", ["deepspeed", "--no_python", "--num_gpus=2", "--master_port=PORT"]),
    ],
    ids=["torchrun", "deepspeed"],
)
def test_launchers_give_the_run_of_nproc(ds, words, place, nproc_run):
    launcher = [word.replace("PORT", free_port()) for word in words]
    line = ["sf2", "train", "recipe.yaml", "--deepspeed", str(CONFIGS / f"{ds}.json")]
    typed(*launcher, *line, "--out", f"by-{words[0]}", cwd=place)
    run, _ = nproc_run
    assert losses_of(place / f"by-{words[0]}") == pytest.approx(losses_of(run), rel=1e-5)


# A host is this machine: ssh and pdsh run what they would have sent there.
_SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case $1 in -o|-p) shift;; esac; shift; done
shift
exec "$@"
"""
_PDSH = """#!/bin/sh
while [ "$1" != -w ]; do shift; done
hosts=$2; shift 2; number=0; failed=0; started=
for host in $(echo $hosts | tr , ' '); do
  sh -c "$(echo "$*" | sed "s/%n/$number/g")" & started="$started $!"; number=$((number + 1))
done
for one in $started; do wait $one || failed=1; done
exit $failed
"""


@pytest.mark.slow
def test_a_hostfile_gives_the_run_of_nproc(place, nproc_run, monkeypatch):
    programs = place / "programs"
    programs.mkdir()
    for name, text in (("ssh", _SSH), ("pdsh", _PDSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (place / "hosts").write_text("first slots=1\nsecond slots=1\n")
    typed("sf2", *TRAIN, "--hostfile", "hosts", "--out", "by-hosts", cwd=place)
    assert losses_of(place / "by-hosts") == pytest.approx(losses_of(nproc_run[0]), rel=1e-5)


def test_slurm_gives_the_run_of_nproc(place, nproc_run):
    first, second = sf2_ranks(slurm_ranks(), *TRAIN, "--out", "by-srun", cwd=place)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert (second.out, second.err) == ("", "")
    assert losses_of(place / "by-srun") == pytest.approx(losses_of(nproc_run[0]), rel=1e-5)


@pytest.fixture(scope="module")
def long_run(place):
    """A run on two ranks with a checkpoint every RESUMED_FROM steps."""
    steps = (f"schedule.steps={RESUMED_STEPS}", f"checkpoint.every_steps={RESUMED_FROM}")
    args = (*TRAIN, "--set", steps[0], "--set", steps[1])
    first, _ = sf2_ranks(ranks(2), *args, "--out", "long", cwd=place)
    assert first.code == 0, first.err
    return place / "long", args


def stopped(run, name):
    """A copy of the run as a kill in the middle of step 5 would have left it."""
    copy = shutil.copytree(run, run.parent / name)
    shutil.rmtree(copy / "model")
    for step in range(RESUMED_FROM + 1, RESUMED_STEPS + 1):
        shutil.rmtree(copy / "checkpoints" / f"step-{step:08d}", ignore_errors=True)
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    return copy


def test_a_resumed_run_is_the_run_that_never_stopped(long_run, place):
    run, args = long_run
    copy = stopped(run, "resumed")
    first, second = sf2_ranks(ranks(2), *args, "--out", copy, "--resume", cwd=place)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert f"going on from {copy}/checkpoints/step-00000002 (step 2 of 6)" in first.err
    assert metrics_of(copy) == metrics_of(run)
    assert final_bytes(copy) == final_bytes(run)


def test_a_finished_run_has_nothing_left_to_do(long_run, place):
    run, args = long_run
    before = metrics_of(run)
    done = sf2(*args, "--out", run, "--resume", cwd=place)
    assert done.code == 0, done.err
    assert "nothing left to do" in done.err
    assert metrics_of(run) == before


@pytest.fixture(scope="module")
def alone(place):
    """The losses of one process in fp32."""
    done = sf2(*TRAIN, "--out", "alone-fp32", cwd=place)
    assert done.code == 0, done.err
    return losses_of(place / "alone-fp32")


@pytest.mark.parametrize(
    ("setting", "said", "rows", "first_step"),
    [
        ("precision=bf16", "ZeRO 1, bf16; head: float32 rows", "float32", 0.02),
        ("head.storage=bf16", "head: bfloat16 rows, float32 products", "bfloat16", 0.02),
        ("head.negatives=0.5", "0.5 of the negatives", "float32", 1.0),
    ],
)
def test_settings_of_precision_and_head_reach_it(setting, said, rows, first_step, place, alone):
    done = sf2(*TRAIN, "--set", setting, "--out", setting, cwd=place)
    assert done.code == 0, done.err
    assert said in done.err
    assert is_only_sf2(done.err), done.err
    losses = losses_of(place / setting)
    assert losses != alone
    # Later steps on pictures of noise drift apart.
    assert losses[0] == pytest.approx(alone[0], rel=first_step)
    head = place / setting / "checkpoints" / f"step-{STEPS:08d}" / "head" / "head.json"
    assert json.loads(head.read_text())["dtype"] == rows


@pytest.mark.parametrize(
    "schedule",
    [
        ScheduleRecipe(kind="step", epochs=2, warmup_steps=2, milestones=[0.5, 0.9]),
        ScheduleRecipe(kind="cosine", steps=5, warmup_steps=3),
    ],
    ids=lambda schedule: schedule.kind,
)
def test_the_rate_follows_the_schedule(schedule, place):
    text = json.dumps(schedule.model_dump())
    done = sf2(*TRAIN, "--set", f"schedule={text}", "--out", schedule.kind, cwd=place)
    assert done.code == 0, done.err
    total = schedule.steps or schedule.epochs * (30 // BATCH)
    rates = [line["lr"] for line in metrics_of(place / schedule.kind)]
    assert rates == pytest.approx([0.01 * lr_factor(schedule, i, total) for i in range(total)])
    assert len({round(rate, 9) for rate in rates}) > 2
