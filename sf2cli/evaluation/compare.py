"""`sf2 eval --compare`: reports side by side, on the sets that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.kept import Kept, KeptPairs, KeptSearches
from sf2cli.evaluation.paired import Difference, paired_bootstrap
from sf2cli.evaluation.written_report import WrittenReport, convention_of, reported

_REMEDY = "Evaluate the models on the same sets, or name the sets here as well."


@dataclass(frozen=True)
class Metric:
    """One number of every run, None where it cannot be measured; and how far each run but the first
    is from the first."""

    name: str
    values: list[float | None]
    differences: list[Difference | None]


@dataclass(frozen=True)
class ComparedSet:
    """One set as every run saw it.

    Args:
        name: the set's.
        counts: on what it was measured, in words.
        entries: of the runs' report.json.
        kept: what the runs kept of it; empty where one of them kept nothing.
        metrics: those drawn, then those that the reports alone give.
        drawn: `identities`, `pairs` or, where nothing was kept, `nothing`.
        replicates: how many draws.
    """

    name: str
    counts: str
    entries: list[dict[str, Any]]
    kept: list[Kept]
    metrics: list[Metric]
    drawn: str
    replicates: int


@dataclass(frozen=True)
class Comparison:
    """Runs by name, the first being what the others are held against; `left_out` says of each set
    that is not compared why."""

    names: list[str]
    runs: list[WrittenReport]
    sets: list[ComparedSet]
    left_out: list[str]


def compare(runs: Sequence[WrittenReport]) -> Comparison:
    """Measure every set that is in all of the runs, two or more.

    Raises:
        Sf2Error: no set in common.
    """
    names = run_names(runs)
    sets, left_out = [], []
    for entry in runs[0].sets:
        found = _compared(entry, runs, names)
        if isinstance(found, str):
            left_out.append(f"{entry['name']}: {found}")
        else:
            sets.append(found)
    for name, run in zip(names[1:], runs[1:], strict=True):
        alone = [entry for entry in run.sets if runs[0].place_of(entry) is None]
        left_out += [
            f"{entry['name']}: in the report of {name}, not in the first" for entry in alone
        ]
    if not sets:
        told = "; ".join(
            f"{name}: {', '.join(entry['name'] for entry in run.sets)}"
            for name, run in zip(names, runs, strict=True)
        )
        raise Sf2Error(f"--compare: no set is in all of the reports ({told})", _REMEDY)
    return Comparison(names, list(runs), sets, left_out)


def comparison_document(found: Comparison, made_by: dict[str, str]) -> dict[str, Any]:
    """The content of compare.json."""
    return {
        "format": "sf2-comparison",
        "version": 2,
        "runs": {
            name: {
                "report": str(run.folder),
                "model": run.document["model"],
                "warnings": run.document["warnings"],
            }
            for name, run in zip(found.names, found.runs, strict=True)
        },
        "sets": [
            {
                "name": one.name,
                "data_sha256": one.entries[0]["data_sha256"],
                "counts": one.counts,
                "drawn": one.drawn,
                "replicates": one.replicates,
                "values": {
                    name: {metric.name: metric.values[k] for metric in one.metrics}
                    for k, name in enumerate(found.names)
                },
                "differences_to_the_first": {
                    name: {
                        metric.name: None
                        if (difference := metric.differences[k]) is None
                        else asdict(difference)
                        for metric in one.metrics
                    }
                    for k, name in enumerate(found.names[1:])
                },
            }
            for one in found.sets
        ],
        "not_compared": found.left_out,
        "made_by": made_by,
    }


def run_names(runs: Sequence[WrittenReport]) -> list[str]:
    """Short and distinct: the ends of the models' paths, or of the reports' where a model is in two
    of them, that tell them apart."""
    models = [Path(run.document["model"]["place"]) for run in runs]
    for places in (models, [run.folder for run in runs]):
        for parts in range(1, max(len(place.parts) for place in places) + 1):
            names = ["/".join(place.parts[-parts:]) for place in places]
            if len(set(names)) == len(names):
                return names
    return [f"{place} ({k})" for k, place in enumerate(models, 1)]


def _compared(
    entry: dict[str, Any], runs: Sequence[WrittenReport], names: Sequence[str]
) -> ComparedSet | str:
    """A set of the first run, in all runs; or why it cannot be compared."""
    places = [run.place_of(entry) for run in runs]
    entries = []
    for name, run, place in zip(names, runs, places, strict=True):
        if place is None:
            return f"not in the report of {name}"
        entries.append(run.sets[place])
        if convention_of(entries[-1]) != convention_of(entry):
            return (
                f"measured by the convention {convention_of(entry)} in {names[0]} and by"
                f" {convention_of(entries[-1])} in {name}"
            )
    told = [reported(one) for one in entries]
    if not told[0]:
        return "holds a model against its own trained threshold, not against another model"
    kept = [run.kept[place] for run, place in zip(runs, places, strict=True) if place in run.kept]
    if len(kept) < len(runs):
        return ComparedSet(
            str(entry["name"]), _counts(entry), entries, [], _undrawn(told, set()), "nothing", 0
        )
    if not all(_alike(kept[0], one) for one in kept[1:]):
        return "the reports hold other pairs or probes under the same name and hash"
    paired = paired_bootstrap(kept, f"{entry['name']}: compare")
    drawn = [
        Metric(name, [_number(value) for value in values], [row[m] for row in paired.differences])
        for m, (name, values) in enumerate(zip(paired.names, paired.values.T, strict=True))
    ]
    metrics = drawn + _undrawn(told, set(paired.names))
    return ComparedSet(
        str(entry["name"]), _counts(entry), entries, kept, metrics, paired.drawn, paired.replicates
    )


def _counts(entry: dict[str, Any]) -> str:
    told = entry.get("counts")
    return told or f"{entry['genuine']:,} genuine and {entry['impostor']:,} impostor pairs"


def _undrawn(told: Sequence[dict[str, float | None]], drawn: set[str]) -> list[Metric]:
    """What the reports give beyond the metrics `drawn`."""
    found = []
    for name in told[0]:
        values = [each.get(name) for each in told]
        if name not in drawn:
            found.append(Metric(name, values, [_apart(values[0], one) for one in values[1:]]))
    return found


def _apart(first: float | None, later: float | None) -> Difference | None:
    return None if first is None or later is None else Difference(later - first, None, None)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _alike(one: Kept, other: Kept) -> bool:
    """Whether both are of the same pairs, probes or trials."""
    if isinstance(one, KeptPairs):
        return isinstance(other, KeptPairs) and np.array_equal(one.issame, other.issame)
    if type(one) is not type(other) or not np.array_equal(one.people, other.people):
        return False
    if isinstance(one, KeptSearches) and isinstance(other, KeptSearches):
        return list(one.galleries) == list(other.galleries) and all(
            np.array_equal(a.mated, b.mated)
            for a, b in zip(one.galleries.values(), other.galleries.values(), strict=True)
        )
    return True
