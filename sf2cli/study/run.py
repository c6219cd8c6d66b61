"""A study from its file to its report: every run once, a few at a time, resumable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.recipe import dump_recipe
from sf2cli.study.jobs import Job, changes, is_done, plan, result
from sf2cli.study.spec import Study, load_study
from sf2cli.study.table import Results, tables
from sf2cli.study.write import write_report
from sf2cli.training.forward import slow_precision
from sf2cli.training.lock import locked

_POLL_S = 0.1
# For runs to save a checkpoint when the study is stopped.
_GRACE_S = 20.0


class StudyStoppedError(Sf2Error):
    """A study that was told to stop and did; exit status 128 + signal, as a shell has it."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; the runs that are done are kept",
            "Go on with the same command.",
        )
        self.status = 128 + number


def run_study(
    path: Path, out: Path | None, jobs: int, argv: Sequence[str]
) -> tuple[Study, Results, Path]:
    """Do what is left of a study and write its report after every run.

    Args:
        path: the study file.
        out: its folder; default studies/NAME.
        jobs: runs at a time, each rank on one thread.
        argv: the command line, for the report.

    Returns:
        The study, the metrics of every run and the folder.

    Raises:
        Sf2Error: what the user must mend, all that can be known before the first run then; runs
            that failed are named when all others are done.
        StudyStoppedError: Ctrl-C or SIGTERM; no run is left behind.
    """
    study = load_study(path)
    folder = out or Path("studies") / study.name
    planned = plan(study, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "study"):
            return study, _do(study, planned, folder, jobs, argv), folder
    except OSError as failure:
        raise Sf2Error(
            f"--out {folder}: cannot be written ({failure.strerror})", "Name another folder."
        ) from None


def _do(
    study: Study, planned: Sequence[Job], folder: Path, jobs: int, argv: Sequence[str]
) -> Results:
    todo = [job for job in planned if not is_done(job)]
    failed: dict[Job, str] = {}
    for sentence in changes(todo):
        console.info(sentence)
    if todo and len(todo) < len(planned):
        done = len(planned) - len(todo)
        console.info(f"{done} {'run is' if done == 1 else 'runs are'} there already")
    # A device of CUDA is left to the runs.
    precisions = set() if torch.cuda.is_available() else {job.recipe.precision for job in todo}
    for precision in sorted(precisions):
        if (slow := slow_precision(precision, torch.device("cpu"))) is not None:
            console.warn(slow)
    if todo:
        with console.progress(f"study {study.name}", len(todo), "runs") as line:
            for job, failure in _each(todo, study, jobs):
                if failure is not None:
                    failed[job] = failure
                line.advance(last=job.cell.name)
                write_report(folder, study, _results(planned), _named(failed), argv)
    results = _results(planned)
    write_report(folder, study, results, _named(failed), argv)
    if failed:
        job = next(job for job in todo if job in failed)
        raise Sf2Error(
            f"{len(failed)} of {len(todo)} runs failed; the first: {job.cell.name}, seed"
            f" {job.seed}: {failed[job]}",
            f"Mend it and start the study again: the others in {folder} are kept.",
        )
    return results


def _each(todo: Sequence[Job], study: Study, jobs: int) -> Iterator[tuple[Job, str | None]]:
    """Do `jobs` at a time; each as it ends, with what went wrong in a line, or None."""
    waiting, running = list(todo), dict[Job, subprocess.Popen[bytes]]()
    with _stoppable():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    job = waiting.pop(0)
                    running[job] = _start(job, study)
                for job, process in list(running.items()):
                    if process.poll() is not None:
                        del running[job]
                        yield job, _failure(job, process.returncode)
                time.sleep(_POLL_S)
        finally:
            _end(list(running.values()))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Signals that stop the study raise StudyStoppedError for the length of the block."""

    def stop(number: int, _: FrameType | None) -> None:
        raise StudyStoppedError(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _start(job: Job, study: Study) -> subprocess.Popen[bytes]:
    """Train and measure in a process of its own."""
    job.folder.mkdir(parents=True, exist_ok=True)
    given = job.folder / "task.json"
    wanted = json.dumps({"test": str(job.test), "inputs": job.inputs}, indent=1)
    if not given.exists() or given.read_text(encoding="utf-8") != wanted:
        # What another task has trained there is no start for this one.
        shutil.rmtree(job.folder / "run", ignore_errors=True)
    replace_file(job.folder / "recipe.yaml", dump_recipe(job.recipe))
    replace_file(job.folder / "ds.json", json.dumps(job.inputs["deepspeed"], indent=2))
    replace_file(given, wanted)
    # One thread each: runs side by side use the cores better than threads of one small net.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sf2cli.study.one_run", str(job.folder)]
    with (job.folder / "log.txt").open("wb") as log:
        # A session of its own: Ctrl-C reaches the study alone, which ends its runs in order.
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def _failure(job: Job, status: int) -> str | None:
    if not status:
        return None
    log = job.folder / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("error:")] or lines[-1:] or ["nothing"]
    return f"exit status {status}: {said[0]} (see {log})"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask runs to save and end; after _GRACE_S seconds, or a second Ctrl-C, make them."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    try:
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _results(planned: Sequence[Job]) -> Results:
    results: Results = {}
    for job in planned:
        found = result(job)
        if found is not None and found.get("inputs") == job.inputs:
            results.setdefault(job.cell.name, {})[job.seed] = found["metrics"]
    return results


def _named(failed: dict[Job, str]) -> dict[str, dict[int, str]]:
    named: dict[str, dict[int, str]] = {}
    for job, failure in failed.items():
        named.setdefault(job.cell.name, {})[job.seed] = failure
    return named


def print_study(study: Study, results: Results) -> None:
    """The tables of a study, on standard output."""
    for table in tables(study, results):
        console.result_table(table.title, table.columns, table.rows, table.notes)
