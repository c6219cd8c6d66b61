"""study.json, study.csv and study.html, written after every run."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.report.document import made_by
from sf2cli.files import replace_file
from sf2cli.scaling.store import processor
from sf2cli.study.page import page
from sf2cli.study.spec import Study
from sf2cli.study.table import Results, Table, tables


def write_report(
    folder: Path,
    study: Study,
    results: Results,
    failed: Mapping[str, Mapping[int, str]],
    argv: Sequence[str],
) -> None:
    """Write what is known so far of a study into its folder; `failed` says why runs did, by cell
    and seed, and `argv` is the command line after `sf2`.

    Raises:
        Sf2Error: the disk is full or may not be written to.
    """
    found = tables(study, results, failed)
    made = _made_by(study, argv)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "study.json", json.dumps(_document(study, found, made), indent=1))
        replace_file(folder / "study.csv", _csv(study, results))
        replace_file(folder / "study.html", page(folder, study, found, made))
    except OSError as failure:
        raise Sf2Error(
            f"--out {folder}: cannot be written ({failure.strerror})",
            "Free disk space, or name another folder; runs that are done are kept.",
        ) from None


def _made_by(study: Study, argv: Sequence[str]) -> dict[str, str]:
    machine = f"{processor()}, {os.cpu_count()} cores"
    seeds = ", ".join(map(str, study.seeds))
    return {**made_by(argv), "deepspeed": version("deepspeed"), "machine": machine, "seeds": seeds}


def _document(study: Study, found: list[Table], made: dict[str, str]) -> dict[str, Any]:
    return {
        "study": study.model_dump(mode="json"),
        "made_by": made,
        "tables": [
            {"title": table.title, "rows": [asdict(entry) for entry in table.entries]}
            for table in found
        ],
    }


def _csv(study: Study, results: Results) -> str:
    """A line a run."""
    metrics = list(dict.fromkeys(n for r in results.values() for m in r.values() for n in m))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*study.axes, "seed", *metrics])
    for cell in study.cells():
        for seed, found in results.get(cell.name, {}).items():
            writer.writerow([*cell.options.values(), seed, *(found.get(m, "") for m in metrics)])
    return stream.getvalue()
