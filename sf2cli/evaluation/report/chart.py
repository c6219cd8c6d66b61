"""Curves of a finding, as SVG text."""

from __future__ import annotations

from typing import Any

import numpy as np

from sf2cli.evaluation.finding import Chart
from sf2cli.evaluation.measure import percent
from sf2cli.evaluation.report.plots import _figure, _style, _svg

# Apart for the colour-blind, and in grey by their dashes.
_LINES: list[dict[str, Any]] = [
    {"color": "#0072b2", "linewidth": 2},
    {"color": "#d55e00", "linewidth": 2, "linestyle": "--"},
    {"color": "#009e73", "linewidth": 2, "linestyle": "-."},
    {"color": "#777777", "linewidth": 1.5, "linestyle": ":"},
    {"color": "#cc79a7", "linewidth": 2},
    {"color": "#56b4e9", "linewidth": 2, "linestyle": "--"},
    {"color": "#e69f00", "linewidth": 2, "linestyle": "-."},
]
# Curves of fewer points show them.
_MARKED = 25


def chart_plot(chart: Chart) -> str:
    """The curves of shares over shares, ranks or similarities, with a legend below the title."""
    from matplotlib.ticker import MaxNLocator

    with _style():
        figure = _figure()
        axes = figure.subplots()
        few = all(np.size(x) < _MARKED for x, _ in chart.curves.values())
        marker = "o" if few else None
        for k, (name, (x, y)) in enumerate(chart.curves.items()):
            points = np.asarray(x, np.float64), np.asarray(y, np.float64)
            axes.plot(*points, label=name, marker=marker, markersize=4, **_LINES[k % len(_LINES)])
        if chart.diagonal:
            axes.axline((0, 0), (1, 1), color="#cccccc", linewidth=1, zorder=0)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
        for logarithmic, axis, scale in (
            (chart.log_x, axes.xaxis, axes.set_xscale),
            (chart.log_y, axes.yaxis, axes.set_yscale),
        ):
            if logarithmic:
                scale("log")
                axis.set_minor_formatter("")
        if chart.log_y:
            # A curve that is level would leave the axis without a length.
            axes.set_ylim(min(axes.get_ylim()[0], 0.1) * 0.8, 1)
        elif chart.x_kind == "plain":
            axes.set_ylim(bottom=0)
        else:
            axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda share, _: percent(round(share, 9)))
        if chart.x_kind == "whole" and not chart.log_x:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if chart.x_kind == "percent":
            axes.xaxis.set_major_formatter(lambda share, _: percent(round(share, 9)))
        else:
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(which="major", alpha=0.35)
        figure.legend(loc="outside upper left", ncols=2)
        return _svg(figure)
