"""training.html: a finished run in one file that opens without a network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import torch

from sf2cli import __version__, console
from sf2cli.evaluation.report.style import STYLE
from sf2cli.files import replace_file
from sf2cli.recipe import Recipe, dump_recipe
from sf2cli.training.collapse import advice
from sf2cli.training.curves import (
    VALIDATION,
    Curve,
    Metrics,
    Panel,
    collapsed_at,
    panels,
    thinned,
)
from sf2cli.training.run_folder import RunFolder
from sf2cli.training.svg_plot import COLOURS, svg_plot

_POINTS = 400

_DEFINITIONS = {
    "loss": "SphereFace2's, the mean over the batch of the sum over all identities, times"
    " loss_weight.",
    "similarity": "The cosine of an image's embedding with an identity's row, mean over the batch:"
    " with the row of its own identity, and with the rows of all others.",
    "boundary": "Where a classifier says yes: r g(cosine) + bias = 0. Positives belong above"
    " it; a negative above it is a mistaken identity.",
    "bias": "b, the one number that all classifiers share. It weighs one positive against the"
    " negatives, of which there are more the more identities there are.",
    "backbone norms": "2-norms of the backbone's gradient, before clipping, and of its weights.",
    "data wait": "The share of a step's time in which it waited for images.",
}


def write_page(folder: RunFolder, recipe: Recipe, summary: Mapping[str, Any]) -> None:
    """Write the page; where it cannot be written the run is finished all the same.

    Args:
        folder: the run's, with its metrics.jsonl.
        recipe: the run's.
        summary: what the run returned: steps, loss, images_per_s, data_wait, seconds.
    """
    try:
        metrics = Metrics(folder.metrics)
        metrics.read()
        replace_file(folder.page, _page(folder, recipe, summary, metrics.curves))
    except OSError as failure:
        console.warn(f"{folder.page}: cannot be written ({failure.strerror})")


def _page(
    folder: RunFolder, recipe: Recipe, summary: Mapping[str, Any], curves: Mapping[str, Curve]
) -> str:
    figures = "".join(_figure(panel) for panel in panels(curves))
    made = {"sf2": __version__, "torch": torch.__version__, "run folder": str(folder.path)}
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Training: {_text(recipe.name)}</title><style>{STYLE}
pre {{ overflow-x: auto; font-size: .85rem; }}
svg {{ display: block; width: 100%; height: auto; font-family: inherit; }}</style></head><body>
<h1>Training: {_text(recipe.name)}</h1>
{_collapsed(recipe, curves)}{_facts(recipe, summary, curves)}
<div class="plots">{figures}</div>
<h2>Definitions</h2>{_terms(_DEFINITIONS.items())}
<h2>Recipe</h2><pre>{_text(dump_recipe(recipe))}</pre>
<h2>How this page was made</h2>{_terms(made.items())}
</body></html>
"""


def _collapsed(recipe: Recipe, curves: Mapping[str, Curve]) -> str:
    step = collapsed_at(curves)
    if step is None:
        return ""
    return (
        f'<p class="warnings">By step {step:,} the run had collapsed: images'
        " were as similar to all other identities as to their own, and the loss above that of a"
        f" head that tells nobody apart. {_text(advice(recipe))}</p>"
    )


def _facts(recipe: Recipe, summary: Mapping[str, Any], curves: Mapping[str, Curve]) -> str:
    rows = [
        ("steps", f"{summary['steps']:,} of {recipe.batch_size} images"),
        ("loss at the end", f"{curves['loss'][-1][1]:.4f}" if "loss" in curves else "-"),
        ("images a second", f"{summary['images_per_s']:,.0f}"),
        ("time waiting for data", f"{summary['data_wait']:.1%}"),
    ]
    settings = recipe.validation
    if settings and (curve := curves.get(VALIDATION + settings.metric)):
        pick = min if settings.metric == "eer" else max
        step, value = pick(curve, key=lambda point: point[1])
        name = f"best {settings.metric} in validation, mean of the sets"
        rows.append((name, f"{value:.2%} after step {step:,}"))
    cells = "".join(f"<tr><td>{_text(name)}</td><td>{_text(v)}</td></tr>" for name, v in rows)
    return f"<table><tbody>{cells}</tbody></table>"


def _figure(panel: Panel) -> str:
    title = panel.title[0].upper() + panel.title[1:]
    names = [
        f'<span style="color: {colour}">\N{BLACK SQUARE} {_text(name)}</span>'
        for name, colour in zip(panel.curves, cycle(COLOURS), strict=False)
    ]
    legend = "" if len(names) == 1 else f": {', '.join(names)}"
    curves = {name: thinned(curve, _POINTS) for name, curve in panel.curves.items()}
    drawn = svg_plot(curves, title, log=panel.log)
    return f"<figure><figcaption>{_text(title)}{legend}</figcaption>{drawn}</figure>"


def _terms(entries: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in entries)}</dl>"


def _text(value: object) -> str:
    return html.escape(str(value))
