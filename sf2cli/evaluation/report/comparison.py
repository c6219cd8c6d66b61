"""A comparison as tables and as compare.html, one file that opens without a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from sf2cli.evaluation.compare import ComparedSet, Comparison
from sf2cli.evaluation.paired import Difference
from sf2cli.evaluation.report.markup import grid, plot, terms, text
from sf2cli.evaluation.report.page import frame
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.report.plots import compared, det_plot, roc_plot
from sf2cli.evaluation.verification import SortedScores


def comparison_tables(found: Comparison) -> list[Table]:
    """A table for each set: a row a metric, each run's value, and its difference to the first."""
    return [_table(one, found.names) for one in found.sets]


def comparison_page(found: Comparison, document: dict[str, Any]) -> str:
    """The whole page; `document` is the content of compare.json."""
    sections = "".join(
        _section(one, table)
        for one, table in zip(found.sets, comparison_tables(found), strict=True)
    )
    runs = terms(
        (
            name,
            f"{run.document['model']['network']} ({run.document['model']['kind']}), report"
            f" {run.place}, sha256 {run.document['model']['weights_sha256']}",
        )
        for name, run in zip(found.names, found.runs, strict=True)
    )
    return frame(
        "Runs side by side",
        ", ".join(found.names),
        f"""{runs}
<p>Each run is held against the first, {text(found.names[0])}, on the same pairs. In brackets: the
middle 95 % of the differences over draws of the identities (of the pairs, where identities are not
known) with replacement, all runs measured on the same draws. A difference whose bracket holds zero
may be chance.</p>{sections}
<h2>How this page was made</h2>{terms(document["made_by"].items())}""",
    )


def _section(one: ComparedSet, table: Table) -> str:
    splits = {
        name: SortedScores.of(kept.scores, kept.issame)
        for name, kept in zip(table.columns[1 : len(one.kept) + 1], one.kept, strict=True)
    }
    drawn = compared(splits)
    return f"""
<h2>{text(one.name)}</h2>
<p>{text(_counts(one))}</p>
{grid(table.columns, table.rows)}
<div class="plots">
{plot(roc_plot(drawn), "ROC: the share of genuine pairs accepted for each share of impostors.")}
{plot(det_plot(drawn), "DET: the two kinds of error against each other. Lower is better.")}
</div>"""


def _table(one: ComparedSet, names: list[str]) -> Table:
    paired = one.paired
    columns = ["", *names, *(f"{name} less {names[0]}" for name in names[1:])]
    rows = [
        [
            metric,
            *(_value(metric, values[m]) for values in paired.values),
            *(_difference(metric, row[m]) for row in paired.differences),
        ]
        for m, metric in enumerate(paired.names)
        if not np.isnan(paired.values[:, m]).any()
    ]
    return Table(f"{one.name}: {_counts(one)}", columns, rows)


def _counts(one: ComparedSet) -> str:
    entry = one.entries[0]
    return (
        f"{entry['genuine']:,} genuine and {entry['impostor']:,} impostor pairs;"
        f" {one.paired.replicates:,} draws of {one.paired.drawn}"
    )


def _value(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric == "AUC" else f"{value:.2%}"


def _difference(metric: str, found: Difference | None) -> str:
    if found is None:
        return "-"
    if metric == "AUC":
        return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    value, low, high = (100 * share for share in (found.value, found.low, found.high))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
