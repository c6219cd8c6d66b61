"""A comparison as tables and as compare.html, one file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf2cli.evaluation.compare import ComparedSet, Comparison
from sf2cli.evaluation.conventions import TAR_RULES
from sf2cli.evaluation.evaluate import MODEL, PIXELS
from sf2cli.evaluation.identification import Search
from sf2cli.evaluation.kept import KeptPairs, KeptSearches
from sf2cli.evaluation.open_set import TPIR
from sf2cli.evaluation.paired import Difference
from sf2cli.evaluation.report.chart import chart_plot
from sf2cli.evaluation.report.markup import grid, plot, sentence, terms, text
from sf2cli.evaluation.report.page import frame, warning_list
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.report.plots import compared, det_plot, roc_plot
from sf2cli.evaluation.tables import cmc_chart, open_set_chart
from sf2cli.evaluation.verification import SortedScores

_NOT_DRAWN = "not drawn"
DEFINITIONS = {
    "difference": (
        "A run's value less that of the first run. In brackets: the middle 95 % of the differences"
        " over draws of the identities (of the pairs, where identities are not known) with"
        " replacement, all runs measured on the same draws; galleries and distractors stay as they"
        " are. A difference whose bracket holds zero may be chance."
    ),
    _NOT_DRAWN: (
        "A number of the reports themselves that has no bracket: one over folds, or of more"
        " impostor pairs than are kept beside a report, as MegaFace's and those of very large sets."
    ),
    "best accuracy": (
        "The share of pairs told right by the one threshold that is best for these very pairs."
    ),
    # Draws know these definitions alone, whatever convention a report was made by.
    "TAR at FAR": TAR_RULES["sf2"],
    "TPIR at FPIR": TPIR["sf2"],
}


def comparison_tables(found: Comparison) -> list[Table]:
    """A table for each set: a row a metric, each run's value, and its difference to the first."""
    tables = [_table(one, found.names) for one in found.sets]
    if found.left_out:
        notes = [f"Not compared: {one}." for one in found.left_out]
        last = tables[-1]
        tables[-1] = Table(last.title, last.columns, last.rows, [*last.notes, *notes])
    return tables


def comparison_page(found: Comparison, document: dict[str, Any]) -> str:
    """The whole page; `document` is the content of compare.json."""
    sections = "".join(_section(one, found.names) for one in found.sets)
    runs = "".join(
        f"<h3>{text(name)}</h3>{warning_list(run.document['warnings'])}{_run(run.document)}"
        for name, run in zip(found.names, found.runs, strict=True)
    )
    left_out = "".join(f'<p class="soft">{text(sentence(one))}</p>' for one in found.left_out)
    return frame(
        "Runs side by side",
        ", ".join(found.names),
        f"""<p>Each run is held against the first, {text(found.names[0])}, on the same images.
Every term is defined <a href="#definitions">below</a>.</p>{runs}{sections}
{f"<h2>Not compared</h2>{left_out}" if left_out else ""}
<h2 id="definitions">Definitions</h2>{terms(_definitions(found).items())}
<h2>How this page was made</h2>{terms(_origins(found, document))}""",
    )


def _run(document: dict[str, Any]) -> str:
    model = document["model"]
    return f"<p>{text(model['place'])} ({text(model['network'])}, {text(model['kind'])})</p>"


def _origins(found: Comparison, document: dict[str, Any]) -> list[tuple[str, str]]:
    runs = zip(found.names, found.runs, strict=True)
    return [
        *document["made_by"].items(),
        *(
            (name, f"report {run.folder}, sha256 {run.document['model']['weights_sha256']}")
            for name, run in runs
        ),
    ]


def _definitions(found: Comparison) -> dict[str, str]:
    """Those of the reports, but for what each run has of its own."""
    shared: dict[str, str] = {}
    own = {}
    for name, run in zip(found.names, found.runs, strict=True):
        told = dict(run.document["definitions"])
        if MODEL in told:
            own[name] = told.pop(MODEL)
        told.pop(PIXELS, None)
        shared = {**told, **shared}
    return {**own, **shared, **DEFINITIONS}


def _section(one: ComparedSet, names: list[str]) -> str:
    table = _table(one, names)
    return f"""
<h2>{text(one.name)}</h2>
<p>{text(sentence(_counts(one)))}</p>
{grid(table.columns, table.rows)}
<div class="plots">{_plots(one, names)}</div>"""


def _plots(one: ComparedSet, names: list[str]) -> str:
    pairs = [kept for kept in one.kept if isinstance(kept, KeptPairs)]
    if pairs:
        splits = {
            name: SortedScores.of(kept.scores, kept.issame)
            for name, kept in zip(names, pairs, strict=True)
        }
        drawn = compared(splits)
        roc = "ROC: the share of genuine pairs accepted for each share of impostors."
        det = "DET: the two kinds of error against each other. Lower is better."
        return plot(roc_plot(drawn), roc) + plot(det_plot(drawn), det)
    searches = [kept for kept in one.kept if isinstance(kept, KeptSearches)]
    if not searches:
        return ""
    return "".join(
        _gallery(
            gallery,
            {name: kept.galleries[gallery] for name, kept in zip(names, searches, strict=True)},
        )
        for gallery in searches[0].galleries
    )


def _gallery(name: str, found: Mapping[str, Search]) -> str:
    charts = [cmc_chart(found), open_set_chart(found)]
    return "".join(
        plot(chart_plot(chart), f"{chart.caption[:-1]}, {name}.") for chart in charts if chart
    )


def _table(one: ComparedSet, names: list[str]) -> Table:
    columns = ["", *names, *(f"{name} less {names[0]}" for name in names[1:])]
    rows = [
        [
            metric.name,
            *(_value(metric.name, value) for value in metric.values),
            *(_difference(metric.name, difference) for difference in metric.differences),
        ]
        for metric in one.metrics
        if None not in metric.values
    ]
    return Table(f"{one.name}: {_counts(one)}", columns, rows)


def _counts(one: ComparedSet) -> str:
    draws = f"{one.replicates:,} draws of {one.drawn}" if one.replicates else _NOT_DRAWN
    return f"{one.counts}; {draws}"


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if metric == "AUC" else f"{value:.2%}"


def _difference(metric: str, found: Difference | None) -> str:
    if found is None:
        return "-"
    unit, form = (1, "+.4f") if metric == "AUC" else (100, "+.2f")

    def told(share: float) -> str:
        # Zero has no minus here.
        return f"{round(unit * share, 4 if unit == 1 else 2) + 0.0:{form}}"

    if found.low is None or found.high is None:
        return f"{told(found.value)} ({_NOT_DRAWN})"
    return f"{told(found.value)} ({told(found.low)} to {told(found.high)})"
