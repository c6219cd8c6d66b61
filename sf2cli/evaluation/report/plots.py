"""The report's plots, as SVG text. The same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.evaluate import MODEL, PIXELS, Result
from sf2cli.evaluation.measure import percent
from sf2cli.evaluation.verification import SortedScores, eer, roc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 60
# Apart for the colour-blind too.
_BLUE, _ORANGE, _GREY, _LIGHT = "#0072b2", "#d55e00", "#777777", "#cccccc"
_STYLES: dict[str, dict[str, Any]] = {
    MODEL: {"color": _BLUE, "linewidth": 2},
    PIXELS: {"color": _GREY, "linewidth": 1.5, "linestyle": "--"},
}
# Runs that are compared: by their colours, and by their strokes where colours are not printed.
_COLOURS = (_BLUE, _ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "black")
_STROKES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Curve:
    """Scores to draw, what the legend calls them, and how the line looks."""

    label: str
    split: SortedScores
    style: dict[str, Any]


def curves(result: Result) -> list[Curve]:
    """The contenders of one set."""
    return [
        Curve(f"{name}, EER {scored.found.eer:.2%}", scored.split, _STYLES[name])
        for name, scored in result.scored.items()
    ]


def compared(splits: Mapping[str, SortedScores]) -> list[Curve]:
    """Several runs on one set, by their names."""
    return [
        Curve(
            f"{name}, EER {eer(split).rate:.2%}",
            split,
            {
                "color": _COLOURS[k % len(_COLOURS)],
                "linestyle": _STROKES[k % len(_STROKES)],
                "linewidth": 1.8,
            },
        )
        for k, (name, split) in enumerate(splits.items())
    ]


def roc_plot(drawn: Sequence[Curve]) -> str:
    """TAR over FAR on a logarithmic axis, from one accepted impostor pair on."""
    with _style():
        figure = _figure()
        axes = figure.subplots()
        lowest = min(1 / len(curve.split.impostor) for curve in drawn)
        for curve in drawn:
            axes.plot(*staircase(curve.split), label=curve.label, **curve.style)
        axes.set(xscale="log", xlim=(min(lowest, 0.1), 1), ylim=(0, 1.02))
        axes.set(xlabel="FAR (false accept rate, log scale)", ylabel="TAR (true accept rate)")
        _percentages(axes.xaxis)
        axes.yaxis.set_major_formatter(lambda tar, _: percent(round(tar, 6)))
        axes.grid(which="major", alpha=0.35)
        axes.legend(loc="lower right")
        return _svg(figure)


def det_plot(drawn: Sequence[Curve]) -> str:
    """FRR over FAR, both on logarithmic axes, down to one error of each kind."""
    with _style():
        figure = _figure()
        axes = figure.subplots()
        lowest = min(1 / len(curve.split.impostor) for curve in drawn)
        floor = min(1 / len(curve.split.genuine) for curve in drawn)
        for curve in drawn:
            far, tar = staircase(curve.split)
            # Where no genuine pair is rejected a logarithmic axis has no place for the curve.
            rejects = np.where(tar < 1, 1 - tar, np.nan)
            axes.plot(far, rejects, label=curve.label, **curve.style)
        axes.plot([1e-9, 1], [1e-9, 1], color=_LIGHT, linewidth=1, zorder=0)
        axes.set(xscale="log", yscale="log")
        axes.set(xlim=(min(lowest, 0.1), 1), ylim=(min(floor, 0.1) * 0.8, 1))
        axes.set(xlabel="FAR (false accept rate, log scale)")
        axes.set(ylabel="FRR (false reject rate, log scale)")
        for axis in (axes.xaxis, axes.yaxis):
            _percentages(axis)
        axes.grid(which="major", alpha=0.35)
        axes.legend(loc="lower left")
        return _svg(figure)


def _percentages(axis: Any) -> None:
    axis.set_major_formatter(lambda share, _: percent(share))
    axis.set_minor_formatter("")


def histogram(result: Result) -> str:
    """How the model's similarities are spread, for each kind of pair, with the EER threshold."""
    scored = result.scored[MODEL]
    kinds = {"genuine": (scored.split.genuine, _BLUE), "impostor": (scored.split.impostor, _ORANGE)}
    low = min(float(values[0]) for values, _ in kinds.values())
    high = max(float(values[-1]) for values, _ in kinds.values())
    edges = np.linspace(low, high if high > low else low + 0.01, _BINS + 1)
    with _style():
        figure = _figure()
        axes = figure.subplots()
        for name, (values, colour) in kinds.items():
            share = np.histogram(values, edges)[0] / len(values) * 100
            label = f"{name} ({len(values):,} pairs)"
            axes.stairs(share, edges, fill=True, alpha=0.5, color=colour, label=label)
        threshold = scored.found.eer_threshold
        axes.axvline(
            threshold,
            color="black",
            linewidth=1,
            linestyle=":",
            label=f"EER threshold {threshold:.2f}",
        )
        axes.set(xlabel="similarity (cosine)", ylabel="% of the pairs of a kind")
        axes.set_ylim(top=axes.get_ylim()[1] * 1.35)
        axes.legend(loc="upper left", ncols=1)
        return _svg(figure)


def staircase(split: SortedScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FAR and the highest TAR up to it, corner by corner, from one accepted impostor pair on."""
    curve, lowest = roc(split), 1 / len(split.impostor)
    # The first point is what no false accept reaches; it has no place on a logarithmic axis.
    start = int(np.searchsorted(curve.far, lowest, side="left")) - 1
    far, tar = np.maximum(curve.far[start:], lowest), curve.tar[start:]
    return np.repeat(far, 2)[1:], np.repeat(tar, 2)[:-1]


def _style() -> AbstractContextManager[None]:
    import matplotlib as mpl

    plain = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    style: AbstractContextManager[None] = mpl.rc_context(
        {"font.size": 11, "svg.hashsalt": "sf2", **plain}
    )
    return style


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(5.4, 3.8), layout="constrained")


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
