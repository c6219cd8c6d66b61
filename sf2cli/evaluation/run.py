"""`sf2 eval` from its options to the written report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf2cli.backbones.saved import CARD_NAME
from sf2cli.evaluation.all_pairs import open_all_pairs
from sf2cli.evaluation.bins import open_bin
from sf2cli.evaluation.evaluate import evaluate
from sf2cli.evaluation.listed_files import open_pair_list
from sf2cli.evaluation.report.document import document
from sf2cli.evaluation.report.page import page
from sf2cli.evaluation.report.table import Table, tables
from sf2cli.evaluation.report.write import check_folder, write_files


@dataclass(frozen=True)
class Outcome:
    """The content of report.json, the tables to print, and where the page is."""

    document: dict[str, Any]
    tables: list[Table]
    page: Path


def run(
    model: Path,
    *,
    sets: Sequence[Path],
    bins: Sequence[Path],
    lists: Sequence[tuple[Path, Path]],
    out: Path | None,
    argv: Sequence[str],
) -> Outcome:
    """Evaluate `model` on every protocol named, and write report.json and report.html.

    Args:
        model: a model or run folder.
        sets: packed sets, for all their pairs.
        bins: InsightFace .bin files.
        lists: pairs lists, each with the folder of its images.
        out: the report folder; None is `eval` in a run folder, MODEL-eval beside a model folder.
        argv: the command line, for the report.

    Raises:
        Sf2Error: what the user must mend; no report is written then.
    """
    folder = out or _default_folder(model)
    check_folder(folder)
    pair_sets = [open_all_pairs(path) for path in sets]
    pair_sets += [open_bin(path) for path in bins]
    pair_sets += [open_pair_list(path, root) for path, root in lists]
    evaluation = evaluate(model, pair_sets)
    content = document(evaluation, argv)
    write_files(folder, content, page(evaluation, content))
    return Outcome(content, tables(evaluation), folder / "report.html")


def _default_folder(model: Path) -> Path:
    if not (model / CARD_NAME).exists():
        return model / "eval"
    # Not inside: a model folder holds the model's files alone.
    named = model if model.name not in ("", "..") else model.resolve()
    return named.with_name(f"{named.name}-eval")
