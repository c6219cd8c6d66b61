"""`sf2 study`: options in, one call out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sf2cli import console

_PATH = click.Path(path_type=Path)


@click.command("study", short_help="Train a grid of recipes and seeds, and compare.")
@click.argument("file", type=_PATH)
@click.option("--out", type=_PATH, help="The study's folder.  [default: studies/NAME]")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    show_default="one a core",
    help="Runs at a time, each on one thread.",
)
@click.option("--json", "as_json", is_flag=True, help="Print study.json instead of the tables.")
def command(file: Path, out: Path | None, jobs: int, as_json: bool) -> None:
    """Do every run of the study FILE (YAML) that is not done yet, and compare them.

    A study names a recipe, a DeepSpeed file, a packed set to test on, seeds, and axes of options,
    each of which changes fields of the recipe. There is a run for every combination and seed. The
    tables give means and deviations over the seeds, and paired t intervals of the differences
    from the baseline. The folder gets study.json, study.csv, study.html and the runs;
    started again, a study does what is left,
    and again what depends on anything that has changed.

    \b
    Examples:
      sf2 study configs/studies/losses.yaml
      sf2 study configs/studies/noise.yaml --out studies/noise --jobs 4
    """
    from sf2cli.study.run import print_study, run_study

    study, results, folder = run_study(file, out, jobs, sys.argv[1:])
    if as_json:
        console.result_text((folder / "study.json").read_text(encoding="utf-8"))
    else:
        print_study(study, results)
    console.info(f"report: {folder / 'study.html'}")
