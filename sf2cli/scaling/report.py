"""The report: tables and plots on the terminal; scale.json, scale.csv and scale.png in a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.scaling.curves import curves
from sf2cli.scaling.results import DEFINITIONS
from sf2cli.scaling.store import write_whole
from sf2cli.scaling.units import show_bytes, show_count, show_seconds

Row = Mapping[str, Any]

_TIMES = ("identities", "head", "step", "least", "most", "ids x samples/s", "model", "err")
_MEMORY = ("identities", "head", "a rank", "planned", "beyond", "all ranks", "loss, one batch")
_WHERE = ("identities", "head", "product", "element-wise", "update", "comm.", "other", "of tile")


def show(rows: Sequence[Row], skipped: Sequence[str], title: str) -> None:
    """Print what was measured, the comparison, and curves where there are several sizes."""
    console.result_table(f"step time, {title}", _TIMES, [_time_cells(row) for row in rows], keys=2)
    console.result_table(
        "peak memory (beyond: weights, momentum and the process)",
        _MEMORY,
        [_memory_cells(row) for row in rows],
        keys=2,
    )
    console.result_table(
        "where a head step goes, and its products against the bare tile products",
        _WHERE,
        [_share_cells(row) for row in rows],
        keys=2,
    )
    compared = comparison(rows)
    if compared:
        console.result_table(
            "SphereFace2 against softmax",
            ("identities", "SphereFace2", "against", "times as fast", "part of its memory"),
            [
                [
                    show_count(ratio["num_ids"]),
                    ratio["head"],
                    ratio["against"],
                    f"{ratio['times_as_fast']:.2f}",
                    f"{ratio['part_of_memory']:.2f}",
                ]
                for ratio in compared
            ],
            keys=3,
        )
    for line in skipped:
        console.result_text(line)
    if any(len(curve) > 1 for curve in curves(rows, "step_s").values()):
        _show_plots(rows)


def comparison(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every SphereFace2 row against every softmax row of the same size.

    `times_as_fast` is softmax step / SphereFace2 step; `part_of_memory` is SphereFace2's peak of
    all ranks / softmax's, less in both what the processes held before the head was made.
    """
    ratios = []
    for own in (row for row in rows if row["head"].startswith("sphereface2")):
        for other in rows:
            if other["num_ids"] == own["num_ids"] and not other["head"].startswith("sphereface2"):
                ratios.append(
                    {
                        "num_ids": own["num_ids"],
                        "head": own["head"],
                        "against": other["head"],
                        "times_as_fast": other["step_s"] / own["step_s"],
                        "part_of_memory": own["head_bytes"] / other["head_bytes"],
                    }
                )
    return ratios


def write(folder: Path, report: Mapping[str, Any], title: str) -> None:
    """Write scale.json, scale.csv and scale.png into `folder`, each whole.

    Raises:
        Sf2Error: the folder cannot be written to.
    """
    from sf2cli.scaling.plots import scale_plot

    rows = report["points"]
    write_whole(folder / "scale.json", json.dumps(report, indent=1) + "\n")
    write_whole(folder / "scale.csv", _csv(rows))
    write_whole(folder / "scale.png", scale_plot(rows, title))
    console.info(f"report: {folder / 'scale.json'}, scale.csv, scale.png")


def whole_report(
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
    plan: Sequence[Any],
    rows: Sequence[Row],
    skipped: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """What scale.json holds."""
    return {
        "format": "sf2-scale",
        "version": 1,
        "settings": dict(settings),
        "machine": dict(machine),
        "plan": list(plan),
        "points": list(rows),
        "comparison": comparison(rows),
        "skipped": list(skipped),
        **more,
        "definitions": DEFINITIONS,
    }


def _csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _show_plots(rows: Sequence[Row]) -> None:
    from sf2cli.terminal_plot import plot

    for column, title, show_y in (
        ("step_s", "seconds a step, log axes", show_seconds),
        ("all_peaks_bytes", "peak memory of all ranks, log axes", show_bytes),
    ):
        found, show_x = curves(rows, column), lambda x: show_count(round(x))
        console.result_text(plot(found, title, show_x, show_y, log_x=True, log_y=True))


def _time_cells(row: Row) -> list[str]:
    model = row["model_s"]
    return [
        show_count(row["num_ids"]),
        row["head"],
        *(show_seconds(row[column]) for column in ("step_s", "step_min_s", "step_max_s")),
        f"{row['ids_samples_per_s']:.3g}",
        "-" if model is None else show_seconds(model),
        "-" if model is None else f"{row['model_error']:+.0%}",
    ]


def _memory_cells(row: Row) -> list[str]:
    columns = ("rank_peak_bytes", "planned_rank_bytes", "beyond_bytes", "all_peaks_bytes")
    sizes = [show_bytes(row[column]) for column in columns]
    losses = f"{row['first_loss']:.4g} to {row['last_loss']:.4g}"
    return [show_count(row["num_ids"]), row["head"], *sizes, losses]


def _share_cells(row: Row) -> list[str]:
    phases = ("product", "elementwise", "update", "communication", "other")
    shares = [f"{row[f'share_{phase}']:.0%}" for phase in phases]
    return [
        show_count(row["num_ids"]),
        row["head"],
        *shares,
        f"{row['product_fraction']:.0%} of {row['tile_product_flops'] / 1e9:.0f} GFLOP/s",
    ]
