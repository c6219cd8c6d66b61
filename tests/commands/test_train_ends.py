"""How `sf2 train` ends early: Ctrl-C as a terminal sends it, a killed rank, a rank that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from sf2cli.training.launch import LOST_RANK, _culprit
from tests.training.small import write_place

DEADLINE_S = 120.0
ENDLESS = ("--set", "schedule.steps=1000000", "--set", "checkpoint.every_steps=5")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("ends"))


class Training:
    """An endless `sf2 train` in a process group of its own, some steps in."""

    def __init__(self, place, out, *arguments):
        self.errors = place / f"{out}.err"
        goes_on_from = newest_step(place / out) if "--resume" in arguments else 0
        line = ["train", "recipe.yaml", "--deepspeed", "ds.json", "--out", out, *arguments]
        with self.errors.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sf2cli.cli", *line, *ENDLESS],
                cwd=place,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        self._until(
            lambda: (
                self.errors.read_text()
                and steps_in(place / out) > goes_on_from + 5
                and newest_step(place / out) > goes_on_from
            )
        )
        self.members = group_of(self.process.pid)

    def _until(self, reached):
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def children(self):
        return [pid for pid in self.members if pid != self.process.pid]

    def end(self):
        """Exit status, what was printed, and the processes of the group that still live."""
        code = self.process.wait(DEADLINE_S)
        return code, self.errors.read_text(), group_of(self.process.pid)


@contextmanager
def training(*arguments):
    run = Training(*arguments)
    try:
        yield run
    finally:
        for pid in group_of(run.process.pid):
            os.kill(pid, signal.SIGKILL)
        run.process.wait()


def steps_in(run):
    """The last step in metrics.jsonl."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return max((json.loads(line)["step"] for line in lines), default=0)


def group_of(leader):
    """The living processes of a process group, zombies left out."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state != "Z":
            members.append(int(stat.parent.name))
    return sorted(members)


def newest_step(run):
    """The step of the newest whole checkpoint; 0 before the first (they are written behind)."""
    steps = [int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")]
    return max(steps, default=0)


@pytest.mark.parametrize(
    ("name", "arguments", "processes"),
    [
        ("one", [], 1),
        ("two-ranks", ["--nproc", "2"], 3),
        ("loader", ["--set", "data.workers=1"], 2),
    ],
)
def test_ctrl_c_saves_and_says_so_with_status_130(name, arguments, processes, place):
    with training(place, name, *arguments) as run:
        assert len(run.members) >= processes
        os.killpg(run.process.pid, signal.SIGINT)
        code, said, living = run.end()
    assert code == 130, said
    first, *progress, last, remedy = said.splitlines()
    assert first.startswith("5 identities")
    told = ("train: ", "checkpoint: ", "stopping after step ")
    assert all(line.startswith(told) for line in progress)
    assert "saving; Ctrl-C ends without it" in said
    step = newest_step(place / name)
    assert last == f"error: stopped by SIGINT after step {step} of 1000000, which is saved"
    assert remedy == "  Go on with --resume."
    assert living == []


def test_a_killed_rank_takes_the_others_down_and_the_run_goes_on_later(place):
    with training(place, "killed", "--nproc", "2") as run:
        os.kill(run.children()[1], signal.SIGKILL)
        code, said, living = run.end()
    assert code == 1, said
    first, *progress, last, remedy = said.splitlines()
    assert first.startswith("5 identities")
    assert all(line.startswith(("train: ", "checkpoint: ")) for line in progress)
    assert last == "error: rank 1 was killed by SIGKILL"
    assert "--resume" in remedy
    assert living == []
    with training(place, "killed", "--nproc", "2", "--resume") as run:
        assert "going on from killed/checkpoints/step-" in run.errors.read_text()
        os.kill(run.process.pid, signal.SIGTERM)
        code, said, living = run.end()
    assert code == 128 + signal.SIGTERM
    step = newest_step(place / "killed")
    assert f"error: stopped by SIGTERM after step {step} of 1000000, which is saved" in said
    assert living == []


def test_ranks_die_with_the_process_that_launched_them(place):
    with training(place, "orphans", "--nproc", "2") as run:
        run.process.kill()
        run.process.wait()
        deadline = time.monotonic() + DEADLINE_S
        while group_of(run.process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert group_of(run.process.pid) == []


@pytest.mark.parametrize(
    ("codes", "culprit"),
    [
        ([LOST_RANK, 1], 1),
        ([LOST_RANK, -9], 1),
        ([1, LOST_RANK, None], 0),
        ([1, 1], 0),
        ([0, LOST_RANK], 1),
    ],
)
def test_the_rank_with_a_reason_of_its_own_is_the_one_that_failed(codes, culprit):
    assert _culprit(codes) == culprit
