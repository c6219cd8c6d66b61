"""A report that was written, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.evaluate import MODEL
from sf2cli.evaluation.kept import Kept
from sf2cli.evaluation.kept_file import read_kept
from sf2cli.evaluation.report.write import JSON_NAME, SCORES_NAME

# What two reports of the same set have in common, whatever the model.
_SAME = ("data_sha256", "protocol", "genuine", "impostor", "counts")
_NUMBERS = {
    "eer": "EER",
    "auc": "AUC",
    "best_accuracy": "best accuracy",
    "accuracy": "accuracy over folds",
}


@dataclass(frozen=True)
class WrittenReport:
    """The folder, the content of report.json, and what was kept of each set, by its place there."""

    folder: Path
    document: dict[str, Any]
    kept: dict[int, Kept]

    @property
    def sets(self) -> list[dict[str, Any]]:
        """The entries of the sets, in the order of the report."""
        found: list[dict[str, Any]] = self.document["sets"]
        return found

    def place_of(self, entry: dict[str, Any]) -> int | None:
        """Where in this report the set is that another report's `entry` is of."""
        for k, mine in enumerate(self.sets):
            if all(entry.get(field) == mine.get(field) for field in _SAME):
                return k
        return None


def report_of(place: Path) -> Path | None:
    """The folder of the report that `place` is or, being a run folder, holds."""
    for folder in (place, place / "eval"):
        if (folder / JSON_NAME).is_file():
            return folder
    return None


def read_report(folder: Path) -> WrittenReport:
    """A report with what was kept.

    Raises:
        Sf2Error: not a report of this version, or one without scores.
    """
    path = folder / JSON_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure})", "Evaluate the model again.") from None
    kind = (document.get("format"), document.get("version")) if isinstance(document, dict) else ()
    if kind != ("sf2-report", 2):
        raise Sf2Error(
            f"{path}: found {kind}, expected an sf2-report of version 2",
            "Evaluate the model again with --overwrite.",
        )
    return WrittenReport(folder, document, read_kept(folder / SCORES_NAME))


def convention_of(entry: dict[str, Any]) -> str:
    """By whose definitions a set was measured."""
    told = entry.get("convention") or entry["results"].get(MODEL, {}).get("convention")
    return str(told or "sf2")


def reported(entry: dict[str, Any]) -> dict[str, float | None]:
    """The model's rates in a set's entry, by their names; none of a calibration."""
    results = entry["results"]
    if entry["protocol"] == "calibration":
        return {}
    chosen = {MODEL: results[MODEL]} if MODEL in results else results
    found: dict[str, float | None] = {}
    for name, numbers in chosen.items():
        prefix = f"{name}: " if len(chosen) > 1 else ""
        told = {f"{prefix}{text}": numbers[key] for key, text in _NUMBERS.items() if key in numbers}
        for one in numbers.get("rank_rates", ()):
            told[f"{prefix}rank {one['rank']}"] = one["rate"]
        for kind, rate in (("tpir", "fpir"), ("tar", "far")):
            for one in numbers.get(f"{kind}_at_{rate}", ()):
                target = f"{kind.upper()} at {rate.upper()} ≤ {one[rate] * 100:g}%"
                told[f"{prefix}{target}"] = one[kind]
        found |= told
    return found
