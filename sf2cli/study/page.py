"""study.html: tables, each metric drawn with its spread, and the losses of all runs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sf2cli.evaluation.report.markup import grid, plot, terms, text
from sf2cli.evaluation.report.page import frame
from sf2cli.study.spec import Study
from sf2cli.study.table import Table

mpl.use("Agg")

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "black", "#777777")
_STROKES = ("-", "--", "-.", ":")
# Of a loss curve: its noise hides the runs from each other.
_SMOOTHED = 25


def page(folder: Path, study: Study, tables: list[Table], made: dict[str, str]) -> str:
    """The whole page; one file that opens without a network. `made` says how it came about."""
    body = (
        f"<p>{len(study.seeds)} seeds a cell, tested on {text(study.test)}; recipe"
        f" {text(study.recipe)}.</p>"
    )
    for table in tables:
        body += f"\n<h2>{text(table.title)}</h2>" + grid(table.columns, table.rows)
        body += "".join(f'<p class="soft">{text(note)}</p>' for note in table.notes)
        body += f'<div class="plots">{_metrics(table)}</div>'
    curves = _losses(folder, study)
    if curves:
        body += f'\n<h2>Training</h2><div class="plots">{curves}</div>'
    body += f"\n<h2>How this page was made</h2>{terms(made.items())}"
    return frame("Study", study.name, body)


def _metrics(table: Table) -> str:
    """Every metric of a table: a point a seed, and the mean."""
    names = list(dict.fromkeys(name for entry in table.entries for name in entry.statistics))
    drawn = ""
    for name in names:
        figure = Figure(figsize=(5, 0.6 + 0.42 * len(table.entries)), layout="constrained")
        axes = figure.subplots()
        for y, entry in enumerate(table.entries):
            if name not in entry.statistics:
                continue
            statistic = entry.statistics[name]
            values = list(statistic.values.values())
            axes.plot(values, [y] * len(values), "o", color=_COLOURS[0], alpha=0.4, markersize=5)
            axes.plot([statistic.mean], [y], "|", color="black", markersize=16, markeredgewidth=2)
        axes.set_yticks(range(len(table.entries)), [entry.option for entry in table.entries])
        axes.set_ylim(len(table.entries) - 0.5, -0.5)
        axes.set_xlabel(f"{name}, %")
        axes.grid(alpha=0.25, axis="x")
        drawn += plot(_svg(figure), f"{name}: a point for each seed, a stroke for their mean.")
    return drawn


def _losses(folder: Path, study: Study) -> str:
    """The loss of the first seed of every cell, smoothed; a drawing for each of the other axes."""
    groups: dict[str, dict[str, list[float]]] = {}
    for cell in study.cells():
        seed = f"seed-{study.seeds[0]}"
        run = folder.joinpath("runs", *cell.options.values(), seed, "run", "metrics.jsonl")
        losses = _read(run)
        if losses:
            others = ", ".join(v for axis, v in cell.options.items() if axis != study.compare)
            groups.setdefault(others, {})[cell.options[study.compare]] = losses
    drawn = ""
    for others, runs in groups.items():
        figure = Figure(figsize=(5.5, 3.4), layout="constrained")
        axes = figure.subplots()
        for k, (option, losses) in enumerate(runs.items()):
            width = min(_SMOOTHED, len(losses))
            smooth = np.convolve(losses, np.ones(width) / width, "valid")
            axes.plot(
                np.arange(width, len(losses) + 1),
                smooth / smooth[0],
                color=_COLOURS[k % len(_COLOURS)],
                linestyle=_STROKES[k // len(_COLOURS) % len(_STROKES)],
                label=option,
            )
        axes.set(xlabel="step", ylabel="loss over its first value", yscale="log")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
        where = f" ({others})" if others else ""
        drawn += plot(
            _svg(figure),
            f"Training loss, seed {study.seeds[0]}{where}: mean of {_SMOOTHED} steps, relative to"
            " the first. Losses of different forms are not on one scale.",
        )
    return drawn


def _read(path: Path) -> list[float]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    losses = []
    for line in lines:
        try:
            losses.append(float(json.loads(line)["loss"]))
        except (ValueError, KeyError, TypeError):
            continue
    return losses


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "sf2", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
