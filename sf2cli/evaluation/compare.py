"""`sf2 eval --compare`: reports side by side, on the sets that all of them have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli.errors import Sf2Error, why
from sf2cli.evaluation.kept_scores import KeptScores, read_scores
from sf2cli.evaluation.measure import FARS
from sf2cli.evaluation.paired import Paired, paired_bootstrap
from sf2cli.evaluation.report.write import JSON_NAME, SCORES_NAME

_REMEDY = "Evaluate the models on the same sets, or name the sets here as well."


@dataclass(frozen=True)
class Run:
    """A report that was written: its place, its content, and its scores by set."""

    place: Path
    document: dict[str, Any]
    scores: dict[int, KeptScores]


@dataclass(frozen=True)
class ComparedSet:
    """One set as every run saw it: `entries` of their report.json, and `kept` scores."""

    name: str
    entries: list[dict[str, Any]]
    kept: list[KeptScores]
    paired: Paired


@dataclass(frozen=True)
class Comparison:
    """Runs by name, the first being what the others are held against."""

    names: list[str]
    runs: list[Run]
    sets: list[ComparedSet]


def report_of(place: Path) -> Path | None:
    """The folder of the report that `place` is or, being a run folder, holds."""
    for folder in (place, place / "eval"):
        if (folder / JSON_NAME).is_file():
            return folder
    return None


def open_run(folder: Path) -> Run:
    """A report with its scores.

    Raises:
        Sf2Error: not a report of this version, or one without scores.
    """
    path = folder / JSON_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise Sf2Error(
            f"{path}: cannot be read ({why(failure)})", "Evaluate the model again."
        ) from None
    kind = (document.get("format"), document.get("version")) if isinstance(document, dict) else ()
    if kind != ("sf2-report", 2):
        raise Sf2Error(
            f"{path}: found {kind}, expected an sf2-report of version 2",
            "Evaluate the model again with --overwrite.",
        )
    return Run(folder, document, read_scores(folder / SCORES_NAME))


def compare(runs: Sequence[Run]) -> Comparison:
    """Measure every set that is in all of the runs, two or more.

    Raises:
        Sf2Error: no set in common.
    """
    first = runs[0]
    names = _names(runs)
    shared = (_shared(k, runs) for k in range(len(first.document["sets"])))
    sets = [one for one in shared if one is not None]
    if not sets:
        told = "; ".join(
            f"{name}: {', '.join(entry['name'] for entry in run.document['sets'])}"
            for name, run in zip(names, runs, strict=True)
        )
        raise Sf2Error(f"--compare: no set of pairs is in all of the reports ({told})", _REMEDY)
    return Comparison(names, list(runs), sets)


def comparison_document(found: Comparison, made_by: dict[str, str]) -> dict[str, Any]:
    """The content of compare.json."""
    return {
        "format": "sf2-comparison",
        "version": 1,
        "runs": {
            name: {"report": str(run.place), "model": run.document["model"]}
            for name, run in zip(found.names, found.runs, strict=True)
        },
        "sets": [
            {
                "name": one.name,
                "data_sha256": one.entries[0]["data_sha256"],
                "genuine": one.entries[0]["genuine"],
                "impostor": one.entries[0]["impostor"],
                "drawn": one.paired.drawn,
                "replicates": one.paired.replicates,
                "values": {
                    name: {
                        metric: None if np.isnan(value) else float(value)
                        for metric, value in zip(one.paired.names, values, strict=True)
                    }
                    for name, values in zip(found.names, one.paired.values, strict=True)
                },
                "differences_to_the_first": {
                    name: {
                        metric: None if difference is None else asdict(difference)
                        for metric, difference in zip(one.paired.names, row, strict=True)
                    }
                    for name, row in zip(found.names[1:], one.paired.differences, strict=True)
                },
            }
            for one in found.sets
        ],
        "made_by": made_by,
    }


def _shared(k: int, runs: Sequence[Run]) -> ComparedSet | None:
    """Set `k` of the first run, if every run has scores of the same pairs."""
    wanted = runs[0].document["sets"][k]
    entries, kept = [], []
    for run in runs:
        place = _place(wanted, run)
        if place is None:
            return None
        entries.append(run.document["sets"][place])
        kept.append(run.scores[place])
        if not np.array_equal(kept[-1].issame, kept[0].issame):
            return None
    name = str(wanted["name"])
    return ComparedSet(name, entries, kept, paired_bootstrap(kept, FARS, f"{name}: compare"))


def _place(wanted: dict[str, Any], run: Run) -> int | None:
    """Where in a run's report the same pairs are, if it kept their scores."""
    fields = ("data_sha256", "protocol", "genuine", "impostor")
    for k, entry in enumerate(run.document["sets"]):
        if k in run.scores and all(wanted.get(field) == entry.get(field) for field in fields):
            return k
    return None


def _names(runs: Sequence[Run]) -> list[str]:
    """Short and distinct: the models' last parts, or as much of their paths as tells them apart."""
    places = [Path(run.document["model"]["place"]) for run in runs]
    for parts in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-parts:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [f"{place} ({k})" for k, place in enumerate(places, 1)]
