"""Time and memory against the number of identities, on log axes, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sf2cli.scaling.curves import curves
from sf2cli.scaling.units import show_bytes, show_count, show_seconds

mpl.use("Agg")


def scale_plot(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG: the step with its least and most and the model's line; the peak of all ranks."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    time, memory = figure.subplots(1, 2)
    models = curves(rows, "model_s")
    for number, (head, points) in enumerate(curves(rows, "step_s").items()):
        colour = f"C{number}"
        x, y = zip(*points, strict=True)
        ends = [curves(rows, column)[head] for column in ("step_min_s", "step_max_s")]
        low, high = ([value for _, value in end] for end in ends)
        time.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        time.plot(x, y, "o-", color=colour, label=head)
        if head in models:
            mx, my = zip(*models[head], strict=True)
            time.plot(mx, my, "x--", color=colour, label=f"{head}, model", linewidth=1)
        mx, my = zip(*curves(rows, "all_peaks_bytes")[head], strict=True)
        memory.plot(mx, my, "o-", color=colour, label=head)
    time.set(ylabel="a step", title="time")
    memory.set(ylabel="all ranks", title="peak memory")
    counts = sorted({row["num_ids"] for row in rows})
    for axes, base, show in ((time, 10, show_seconds), (memory, 2, show_bytes)):
        axes.set(xscale="log", yscale="log", xlabel="identities")
        axes.set_xticks(counts, [show_count(count) for count in counts])
        axes.yaxis.set_major_locator(LogLocator(base, subs=(1, 1.5) if base == 2 else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, show=show: show(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()
