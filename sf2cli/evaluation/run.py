"""`sf2 eval` from its options to the written report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.backbones.saved import CARD_NAME
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.all_pairs import open_all_pairs
from sf2cli.evaluation.bins import open_bin
from sf2cli.evaluation.cache import default_cache
from sf2cli.evaluation.compare import compare, comparison_document
from sf2cli.evaluation.conventions import Convention
from sf2cli.evaluation.derived import derived
from sf2cli.evaluation.evaluate import evaluate
from sf2cli.evaluation.finding import Task
from sf2cli.evaluation.ijb import open_ijb
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.kept_file import pack_kept
from sf2cli.evaluation.listed_files import open_pair_list
from sf2cli.evaluation.megaface_task import open_megaface
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.open_set import open_identification
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.evaluation.report.comparison import comparison_page, comparison_tables
from sf2cli.evaluation.report.document import document, made_by
from sf2cli.evaluation.report.page import page
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.report.panels import panels
from sf2cli.evaluation.report.print_tables import as_text
from sf2cli.evaluation.report.write import (
    JSON_NAME,
    PAGE_NAME,
    SCORES_NAME,
    check_folder,
    write_files,
)
from sf2cli.evaluation.self_check import self_check
from sf2cli.evaluation.written_report import read_report, report_of

COMPARISON_JSON_NAME = "compare.json"
COMPARISON_PAGE_NAME = "compare.html"


@dataclass(frozen=True)
class Protocols:
    """What to evaluate on.

    Args:
        sets: packed sets, for all their pairs.
        bins: InsightFace .bin files.
        lists: pairs lists, each with the folder of its images.
        identified: packed sets, for open-set identification.
        identify_seed: draws their galleries and probes.
        ijbs: IJB-B and IJB-C as InsightFace packs them.
        megafaces: MegaFace folders.
        combined: whether bins and lists are pooled under one threshold as well.
        convention: whose definitions to use where the peers' differ.
    """

    sets: Sequence[Path] = ()
    bins: Sequence[Path] = ()
    lists: Sequence[tuple[Path, Path]] = ()
    identified: Sequence[Path] = ()
    identify_seed: int = 0
    ijbs: Sequence[Path] = ()
    megafaces: Sequence[Path] = ()
    combined: bool = False
    convention: Convention = "sf2"

    def __bool__(self) -> bool:
        """Whether anything is named."""
        named = (self.sets, self.bins, self.lists, self.identified, self.ijbs, self.megafaces)
        return any(named)

    def open(self) -> list[PairSet | Task]:
        """Every one of them made ready, in the order of the report.

        Raises:
            Sf2Error: one cannot be read, or has no pairs to compare.
        """
        found: list[PairSet | Task] = [open_all_pairs(path) for path in self.sets]
        found += [open_bin(path) for path in self.bins]
        found += [open_pair_list(path, root) for path, root in self.lists]
        found += [
            open_identification(path, self.identify_seed, self.convention)
            for path in self.identified
        ]
        found += [open_ijb(path, self.convention) for path in self.ijbs]
        return found + [open_megaface(path) for path in self.megafaces]


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Args:
        said: what the user says of the models' input.
        overwrite: whether an earlier report may be replaced.
        cached: whether embeddings are kept in the user's cache and found again.
        argv: the command line, for the report.
    """

    said: InputOptions
    overwrite: bool
    cached: bool
    argv: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """The content of the JSON file, the tables to print, and where the page is."""

    document: dict[str, Any]
    tables: list[Table]
    page: Path

    def as_text(self, form: str) -> str:
        """The tables as text to paste: `md` or `latex`."""
        return as_text(self.tables, form)


def run(model: Path, protocols: Protocols, out: Path | None, settings: Settings) -> Outcome:
    """Evaluate `model` on every protocol named, and write the report.

    Args:
        model: whatever `open_embedder` takes.
        protocols: what to evaluate on.
        out: the report folder; None is `eval` in a run folder, MODEL-eval beside any other model.
        settings: how.

    Raises:
        Sf2Error: what the user must mend; no report is written then.
    """
    folder = out or default_folder(model)
    check_folder(folder, (JSON_NAME, PAGE_NAME), overwrite=settings.overwrite)
    opened = protocols.open()
    embedder = open_embedder(model, settings.said)
    cache = default_cache() if settings.cached else None
    evaluation = evaluate(embedder, opened, cache, protocols.convention)
    further = derived(
        evaluation.results,
        embedder.card.head,
        combined=protocols.combined,
        convention=protocols.convention,
    )
    warnings = self_check(embedder, opened)
    for warning in warnings:
        console.warn(warning)
    evaluation = replace(evaluation, findings=further + evaluation.findings, warnings=warnings)
    made = panels(evaluation)
    content = document(evaluation, made, settings.argv)
    files: dict[str, str | bytes] = {
        JSON_NAME: _json(content),
        PAGE_NAME: page(evaluation, made, content),
        SCORES_NAME: pack_kept(evaluation),
    }
    write_files(folder, files)
    return Outcome(content, [panel.table for panel in made], folder / PAGE_NAME)


def run_comparison(
    places: Sequence[Path], protocols: Protocols, out: Path | None, settings: Settings
) -> Outcome:
    """Put models or reports side by side, evaluating those that are no reports yet.

    Args:
        places: report folders, run folders with a report in them, or models; with protocols every
            one but the report folders is evaluated.
        protocols: what to evaluate models on.
        out: folder of the comparison, and of the models' reports in it; None is `comparison` here.
        settings: how.

    Raises:
        Sf2Error: what the user must mend.
    """
    if len(places) < 2:
        raise Sf2Error("--compare: found one run, expected two or more", "Name another.")
    folder = out or Path("comparison")
    check_folder(folder, (COMPARISON_JSON_NAME, COMPARISON_PAGE_NAME), overwrite=settings.overwrite)
    reports = []
    for k, place in enumerate(places, 1):
        report = report_of(place)
        if protocols and report != place:
            report = folder / f"{k}-{place.stem}"
            run(place, protocols, report, settings)
        if report is None:
            raise Sf2Error(
                f"--compare {place}: no report in it",
                "Name what to evaluate it on: --set, --bin or --pairs.",
            )
        reports.append(report)
    found = compare([read_report(report) for report in reports])
    content = comparison_document(found, made_by(settings.argv))
    files = {
        COMPARISON_JSON_NAME: _json(content),
        COMPARISON_PAGE_NAME: comparison_page(found, content),
    }
    write_files(folder, files)
    return Outcome(content, comparison_tables(found), folder / COMPARISON_PAGE_NAME)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def default_folder(model: Path) -> Path:
    """Where the report of a model goes that is not told."""
    if model.is_dir() and not (model / CARD_NAME).exists():
        return model / "eval"
    # Not inside: a model folder holds the model's files alone.
    named = model if model.name not in ("", "..") else model.resolve()
    return named.with_name(f"{named.name}-eval")
