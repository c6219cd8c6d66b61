"""The tables of a study: the compared options side by side, one table for each of the others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sf2cli.study.spec import THROUGHPUT, Cell, Study
from sf2cli.study.summary import Metrics, Statistic, ordered, summarise

# So many seeds show whether their differences are about normal.
_ENOUGH = 5

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


def tables(
    study: Study, results: Results, failed: Mapping[str, Mapping[int, str]] | None = None
) -> list[Table]:
    """One table for every combination of the axes that are not compared; `failed` says of cells
    and seeds why they have no result."""
    others = [axis for axis in study.axes if axis != study.compare]
    combinations = itertools.product(*(study.axes[axis] for axis in others))
    return [
        _table(study, results, failed or {}, dict(zip(others, c, strict=True)))
        for c in combinations
    ]


def _table(
    study: Study,
    results: Results,
    failed: Mapping[str, Mapping[int, str]],
    fixed: dict[str, str],
) -> Table:
    cells = {
        cell.options[study.compare]: cell
        for cell in study.cells()
        if fixed.items() <= cell.options.items()
    }
    baseline = _runs(study, results, cells[study.baseline])
    entries = []
    for option, cell in cells.items():
        runs = _runs(study, results, cell)
        against = None if option == study.baseline else baseline
        entries.append(Row(option, len(runs), summarise(runs, against)))
    metrics = list(dict.fromkeys(name for entry in entries for name in entry.statistics))
    return Table(
        title=", ".join((study.name, *(f"{axis} {name}" for axis, name in fixed.items()))),
        entries=entries,
        columns=[study.compare, "seeds", *metrics],
        rows=[_cells(entry, metrics, len(study.seeds)) for entry in entries],
        notes=[
            f"percent{', but for images/s' if THROUGHPUT in metrics else ''}; mean ± standard"
            f" deviation, then the difference from {study.baseline} and its 95 % interval over the"
            " seeds (paired t); * where that leaves out 0",
            *_caveats(entries),
            *(
                f"{cell.name}, seed {seed} failed: {why}"
                for cell in cells.values()
                for seed, why in failed.get(cell.name, {}).items()
            ),
        ],
    )


def _caveats(entries: Sequence[Row]) -> list[str]:
    found = [s.difference for entry in entries for s in entry.statistics.values() if s.difference]
    fewest = min((difference.seeds for difference in found), default=_ENOUGH)
    if fewest >= _ENOUGH:
        return []
    told = "1 seed gives no interval" if fewest == 1 else f"{fewest} seeds are few"
    return [f"{told}: the intervals suppose normal differences; {_ENOUGH} seeds or more say more"]


def _runs(study: Study, results: Results, cell: Cell) -> dict[int, Metrics]:
    return ordered(study.seeds, results.get(cell.name, {}))


def _cells(entry: Row, metrics: list[str], seeds: int) -> list[str]:
    found = [entry.statistics.get(name) for name in metrics]
    done = str(seeds) if entry.seeds == seeds else f"{entry.seeds} of {seeds}"
    return [entry.option, done, *("-" if s is None else text(s) for s in found)]


def text(statistic: Statistic) -> str:
    """A statistic as it stands in a table."""
    shown = f"{statistic.mean:.2f}"
    if statistic.sd is not None:
        shown += f" ± {statistic.sd:.2f}"
    if (difference := statistic.difference) is not None:
        shown += f"\n{difference.mean:+.2f}"
        if difference.low is not None:
            star = "*" if difference.clear else ""
            shown += f" ({difference.low:+.2f}, {difference.high:+.2f}){star}"
    return shown
