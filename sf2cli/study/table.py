"""The tables of a study: the compared options side by side, one table for each of the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sf2cli.study.spec import Cell, Study
from sf2cli.study.summary import Metrics, Statistic, ordered, summarise

Results = dict[str, dict[int, Metrics]]
"""Cell name -> seed -> metrics."""


@dataclass(frozen=True)
class Row:
    """One compared option: the seeds that are done, and its statistics by metric."""

    option: str
    seeds: int
    statistics: dict[str, Statistic]


@dataclass(frozen=True)
class Table:
    """What stands in one table, as numbers and as text."""

    title: str
    entries: list[Row]
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(study: Study, results: Results) -> list[Table]:
    """One table for every combination of the axes that are not compared."""
    others = [axis for axis in study.axes if axis != study.compare]
    combinations = itertools.product(*(study.axes[axis] for axis in others))
    return [_table(study, results, dict(zip(others, c, strict=True))) for c in combinations]


def _table(study: Study, results: Results, fixed: dict[str, str]) -> Table:
    cells = {
        cell.options[study.compare]: cell
        for cell in study.cells()
        if fixed.items() <= cell.options.items()
    }
    baseline = _runs(study, results, cells[study.baseline])
    entries = []
    for option, cell in cells.items():
        runs = _runs(study, results, cell)
        if runs:
            against = None if option == study.baseline else baseline
            entries.append(Row(option, len(runs), summarise(runs, against)))
    metrics = list(dict.fromkeys(name for entry in entries for name in entry.statistics))
    return Table(
        title=", ".join((study.name, *(f"{axis} {name}" for axis, name in fixed.items()))),
        entries=entries,
        columns=[study.compare, "seeds", *metrics],
        rows=[_cells(entry, metrics) for entry in entries],
        notes=[
            f"percent; mean +- standard deviation, then the difference from {study.baseline} and"
            " its 95 % interval over the seeds; * where that leaves out 0"
        ],
    )


def _runs(study: Study, results: Results, cell: Cell) -> dict[int, Metrics]:
    return ordered(study.seeds, results.get(cell.name, {}))


def _cells(entry: Row, metrics: list[str]) -> list[str]:
    found = [entry.statistics.get(name) for name in metrics]
    return [entry.option, str(entry.seeds), *("" if s is None else text(s) for s in found)]


def text(statistic: Statistic) -> str:
    """A statistic as it stands in a table."""
    shown = f"{statistic.mean:.2f}"
    if statistic.sd is not None:
        shown += f" +- {statistic.sd:.2f}"
    if (difference := statistic.difference) is not None:
        star = "*" if difference.clear else ""
        shown += f"\n{difference.mean:+.2f} ({difference.low:+.2f}, {difference.high:+.2f}){star}"
    return shown
