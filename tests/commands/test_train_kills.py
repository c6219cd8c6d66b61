"""kill -9 at random moments: a run that is gone on with each time is the run that never stopped.

`pytest tests/commands/test_train_kills.py -m slow -s` takes 40 kills and says where they struck.
"""

import random
import time

import pytest

from tests.command import TIMEOUT_S, running, sf2_ranks
from tests.training.small import final_bytes, metrics_of, ranks, write_place

EVERY = 2
# Everything random is on: rounding, sampling, mirroring, augmentation.
SETTINGS = (
    "backbone.name=sfnet4_slim_bn",
    "head.storage=bf16",
    "head.negatives=0.5",
    "data.augment.shift=1",
    f"checkpoint.every_steps={EVERY}",
    "checkpoint.keep_last=2",
)


def lines_of(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def strike(run, going, dice):
    """Kill one rank or both a few steps on; who, and whether a checkpoint was being written."""
    begun, deadline = None, time.monotonic() + TIMEOUT_S
    wanted = dice.randint(1, 3 * EVERY)
    while begun is None or lines_of(run) < begun + wanted:
        if begun is None and (run / ".lock").exists() and lines_of(run):
            begun = lines_of(run)
        assert all(process.exitcode is None for process in going.processes), going.end()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 0.08))
    victims = dice.choice([[0], [1], [0, 1]])
    for victim in victims:
        going.processes[victim].kill()
    going.end()
    return victims, any((run / "checkpoints").glob(".step-*"))


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_is_the_run_that_never_stopped(kills, tmp_path):
    place = write_place(tmp_path)
    settings = [part for value in SETTINGS for part in ("--set", value)]
    settings += ["--set", f"schedule.steps={10 * kills + 30}"]
    args = ("train", "recipe.yaml", "--deepspeed", "ds.json", *settings)
    for done in sf2_ranks(ranks(2), *args, "--out", "whole", cwd=place):
        assert done.code == 0, done.err
    dice = random.Random(5)
    run = place / "killed"
    struck = []
    for number in range(kills):
        resume = ["--resume"] if number else []
        with running(ranks(2), *args, "--out", run, *resume, cwd=place) as going:
            struck.append(strike(run, going, dice))
    for done in sf2_ranks(ranks(2), *args, "--out", run, "--resume", cwd=place):
        assert done.code == 0, done.err
    writing = sum(found for _, found in struck)
    print(f"{kills} kills, {writing} while a checkpoint was being written or removed")
    assert metrics_of(run) == metrics_of(place / "whole")
    assert final_bytes(run) == final_bytes(place / "whole")
