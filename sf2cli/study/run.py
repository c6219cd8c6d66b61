"""A study from its file to its report: every run once, a few at a time, resumable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.study.spec import Cell, Study, load_study
from sf2cli.study.table import Results, tables
from sf2cli.study.write import write_report

RESULT = "result.json"


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a cell with one seed, and its folder."""

    cell: Cell
    seed: int
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the result depends on and the study file says."""
        return {**self.cell.changes, "seed": self.seed}


def run_study(path: Path, out: Path | None, jobs: int) -> tuple[Study, Results, Path]:
    """Do what is left of a study and write its report after every run.

    Args:
        path: the study file.
        out: its folder; default studies/NAME.
        jobs: runs at a time, each on one thread.

    Returns:
        The study, the metrics of every run and the folder.

    Raises:
        Sf2Error: what the user must mend; runs that failed are named when all others are done.
    """
    study = load_study(path)
    folder = out or Path("studies") / study.name
    todo = [job for job in _jobs(study, folder) if _result(job, study) is None]
    failed: dict[Job, str] = {}
    if todo:
        done = len(study.cells()) * len(study.seeds) - len(todo)
        if done:
            console.info(f"{done} runs are there already")
        with (
            console.progress(f"study {study.name}", len(todo), "runs") as line,
            ThreadPoolExecutor(jobs) as pool,
        ):
            running = {pool.submit(_run, job, study): job for job in todo}
            for future in as_completed(running):
                job = running[future]
                if (failure := future.result()) is not None:
                    failed[job] = failure
                line.advance(last=job.cell.name)
                write_report(folder, study, _results(study, folder))
    results = _results(study, folder)
    write_report(folder, study, results)
    if failed:
        job = next(job for job in todo if job in failed)
        raise Sf2Error(
            f"{len(failed)} of {len(todo)} runs failed; the first: {job.cell.name}, seed"
            f" {job.seed}: {failed[job]}",
            f"Mend it and start the study again: the others in {folder} are kept.",
        )
    return study, results, folder


def _jobs(study: Study, folder: Path) -> Iterable[Job]:
    # Seeds first: a study that is cut short has all cells of some seeds.
    for seed in study.seeds:
        for cell in study.cells():
            yield Job(cell, seed, folder.joinpath("runs", *cell.options.values(), f"seed-{seed}"))


def _run(job: Job, study: Study) -> str | None:
    """Train and measure in a process of its own; what went wrong, in a line, or None."""
    job.folder.mkdir(parents=True, exist_ok=True)
    task = {
        "recipe": str(study.recipe),
        "deepspeed": str(study.deepspeed),
        "test": str(study.test),
        "settings": job.settings,
    }
    wanted, given = json.dumps(task, indent=1), job.folder / "task.json"
    if not given.exists() or given.read_text(encoding="utf-8") != wanted:
        # What another task has trained there is no start for this one.
        shutil.rmtree(job.folder / "run", ignore_errors=True)
    replace_file(given, wanted)
    # One thread each: runs side by side use the cores better than threads of one small net.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sf2cli.study.one_run", str(job.folder)]
    with (job.folder / "log.txt").open("w", encoding="utf-8") as log:
        status = subprocess.run(command, env=environment, stdout=log, stderr=log).returncode
    if status:
        lines = (job.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line for line in lines if line.startswith("error:")] or lines[-1:] or ["nothing"]
        return f"exit status {status}: {said[0]} (see {job.folder / 'log.txt'})"
    return None


def _result(job: Job, study: Study) -> dict[str, float] | None:
    """The metrics of a run that is done with these very settings, or None."""
    try:
        found = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = found.get("settings") == json.loads(json.dumps(job.settings))
    metrics: dict[str, float] = found.get("metrics")
    return metrics if same and found.get("test") == str(study.test) else None


def _results(study: Study, folder: Path) -> Results:
    results: Results = {}
    for job in _jobs(study, folder):
        metrics = _result(job, study)
        if metrics is not None:
            results.setdefault(job.cell.name, {})[job.seed] = metrics
    return results


def print_study(study: Study, results: Results) -> None:
    """The tables of a study, on standard output."""
    for table in tables(study, results):
        console.result_table(table.title, table.columns, table.rows, table.notes)
