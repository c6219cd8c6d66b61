"""`sf2 watch`: a run's curves in the terminal, once or for as long as it trains."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from sf2cli.errors import Sf2Error
from sf2cli.terminal_plot import plot
from sf2cli.training.curves import Metrics, Panel, collapsed_at, panels, thinned

_LEAST_WIDTH, _HEIGHT = 36, 8
# Title, axis, names and an empty line; and what stands left of a plot's points and between two.
_AROUND, _MARGIN = 5, 12


def watch(
    run: Path, show: Callable[[str], None], wait: Callable[[], None] | None, size: tuple[int, int]
) -> None:
    """Show the run's curves; with `wait` again and again, until its model is written.

    Args:
        run: a run folder.
        show: takes the whole text, in place of the last one.
        wait: is called between two texts; None for one text alone.
        size: columns and lines to fill; 0 lines for as many as there are panels.

    Raises:
        Sf2Error: no run there, or nothing measured yet and no `wait`.
    """
    path = run / "metrics.jsonl"
    metrics = Metrics(path)
    while True:
        # Looked up first: what is written meanwhile is read after it.
        over = _is_over(run)
        try:
            metrics.read()
        except OSError as failure:
            raise Sf2Error(
                f"{path}: cannot be read ({failure.strerror})", "Name the folder of a run."
            ) from None
        if metrics.curves:
            show(_text(run, metrics, over, size))
        elif wait is None:
            raise Sf2Error(f"{path}: no step was measured yet", "Wait for the run's first step.")
        else:
            show(f"{run}: no step was measured yet")
        if wait is None or over:
            return
        wait()


def _is_over(run: Path) -> bool:
    """Whether the model was written after the last step was measured."""
    model = run / "model" / "model.json"
    return model.exists() and model.stat().st_mtime >= (run / "metrics.jsonl").stat().st_mtime


def _text(run: Path, metrics: Metrics, over: bool, size: tuple[int, int]) -> str:
    shown = panels(metrics.curves)
    columns, lines = size
    abreast = max(1, columns // (_LEAST_WIDTH + _MARGIN))
    if lines:
        shown = shown[: max(1, (lines - 2) // (_HEIGHT + _AROUND)) * abreast]
    drawn = [_draw(panel, max(10, columns // abreast - _MARGIN)) for panel in shown]
    rows = [drawn[i : i + abreast] for i in range(0, len(drawn), abreast)]
    return "\n\n".join([_headline(run, metrics, over), *map(_side_by_side, rows)])


def _headline(run: Path, metrics: Metrics, over: bool) -> str:
    def last(field: str, form: str) -> list[str]:
        curve = metrics.curves.get(field)
        return [form.format(curve[-1][1])] if curve else []

    steps = max(int(curve[-1][0]) for curve in metrics.curves.values())
    said = [f"{run}: step {steps}" + (", finished" if over else "")]
    if (step_of_collapse := collapsed_at(metrics.curves)) is not None:
        said.append(f"collapsed by step {step_of_collapse:g}")
    said += last("loss", "loss {:.4f}") + last("images_per_s", "{:.0f} images/s")
    return ", ".join(
        [*said, *last("data_wait", "{:.0%} for data"), *last("memory_gib", "{:.2f} GiB")]
    )


def _draw(panel: Panel, width: int) -> str:
    curves = {name: thinned(curve, width) for name, curve in panel.curves.items()}
    title = panel.title + (", log axis" if panel.log else "")
    return plot(
        curves, title, "{:.0f}".format, "{:.4g}".format,
        log_y=panel.log, width=width, height=_HEIGHT,
    )  # fmt: skip


def _side_by_side(plots: list[str]) -> str:
    columns = [text.splitlines() for text in plots]
    widths = [max(map(len, column)) for column in columns]
    lines = zip_longest(*columns, fillvalue="")
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
