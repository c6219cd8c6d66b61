"""The report of an evaluation: report.json and one self-contained report.html."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from sf2cli.data.images import encode_png
from sf2cli.evaluation.all_pairs import Evaluation, PairScores
from sf2cli.evaluation.verification import SortedScores, roc

mpl.use("Agg")
_SHOWN = 6
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.3rem .8rem;text-align:right}
td:first-child,th:first-child{text-align:left}tr+tr{border-top:1px solid #ccc}img{max-width:100%}
.pairs{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;width:9rem;font-size:.75rem;
overflow-wrap:anywhere}figure img{width:4.3rem;image-rendering:pixelated}"""


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the result table."""
    results = report["results"]
    fars = [entry["far"] for entry in results["model"]["tar_at_far"]]
    columns = ["", "EER", "AUC", "accuracy", *(f"TAR@{far:g}" for far in fars)]
    rows = [
        [
            name,
            f"{found['eer']:.2%}",
            f"{found['auc']:.4f}",
            f"{found['accuracy']:.2%}",
            *("-" if t["tar"] is None else f"{t['tar']:.2%}" for t in found["tar_at_far"]),
        ]
        for name, found in results.items()
    ]
    return columns, rows


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write report.json and report.html into `folder`; each appears whole. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.json": json.dumps(evaluation.report, indent=2) + "\n",
        "report.html": _page(evaluation),
    }
    for name, text in texts.items():
        beside = folder / f".{name}-partial"
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / name)
    return folder / "report.html"


def _page(evaluation: Evaluation) -> str:
    report = evaluation.report
    columns, rows = table(report)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    meanings = "".join(
        f"<dt>{name}</dt><dd>{html.escape(text)}</dd>"
        for name, text in report["definitions"].items()
    )
    credit = ""
    if "AT&T" in str(evaluation.packed.manifest.made_by.get("source", "")):
        credit = "<p>Faces: AT&amp;T Laboratories Cambridge.</p>"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>sf2 eval</title><style>{_STYLE}</style>
<h1>Verification on {html.escape(report["set"])}</h1>
<p>{report["images"]} images of {report["identities"]} identities, all pairs: {report["genuine"]}
genuine, {report["impostor"]} impostor.</p>{credit}
<table><tr>{head}</tr>{body}</table>
<h2>ROC</h2><img alt="ROC" src="{_roc_plot(evaluation)}">
<h2>Similarities</h2><img alt="histogram" src="{_histogram(evaluation.model)}">
{_pictures(evaluation)}
<h2>Definitions</h2><dl>{meanings}</dl></html>
"""


def _roc_plot(evaluation: Evaluation) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, pairs in (("model", evaluation.model), ("raw pixels", evaluation.pixels)):
        scores = SortedScores.of(pairs.score, pairs.issame)
        curve = roc(scores)
        axes.step(np.maximum(curve.far, 0.5 / len(scores.impostor)), curve.tar, label=name)
    axes.set(xscale="log", xlabel="FAR", ylabel="TAR", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _svg(figure)


def _histogram(pairs: PairScores) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(-1, 1, 101).tolist()
    for name, kind in (("genuine", pairs.issame), ("impostor", ~pairs.issame)):
        axes.hist(pairs.score[kind], bins, density=True, alpha=0.6, label=name)
    axes.set(xlabel="cosine similarity", ylabel="density")
    axes.legend()
    return _svg(figure)


def _svg(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _pictures(evaluation: Evaluation) -> str:
    pairs = evaluation.model
    order = np.argsort(pairs.score, kind="stable")
    genuine, impostor = order[pairs.issame[order]], order[~pairs.issame[order]]
    panels = {
        "Hardest genuine pairs": genuine[:_SHOWN],
        "Hardest impostor pairs": impostor[::-1][:_SHOWN],
        "Easiest genuine pairs": genuine[::-1][:_SHOWN],
        "Easiest impostor pairs": impostor[:_SHOWN],
    }
    return "".join(
        f'<h2>{title}</h2><div class="pairs">'
        + "".join(_figure(evaluation, int(i)) for i in chosen)
        + "</div>"
        for title, chosen in panels.items()
    )


def _figure(evaluation: Evaluation, pair: int) -> str:
    packed, pairs = evaluation.packed, evaluation.model
    images, names = [], []
    channels = 1 if packed.manifest.image.colour == "L" else 3
    for i in (int(pairs.first[pair]), int(pairs.second[pair])):
        png = base64.b64encode(encode_png(packed.decode(i, 64, channels))).decode()
        images.append(f'<img alt="" src="data:image/png;base64,{png}">')
        names.append(html.escape(packed.source(i)))
    caption = f"{pairs.score[pair]:.3f}: {names[0]} - {names[1]}"
    return f"<figure>{''.join(images)}<figcaption>{caption}</figcaption></figure>"
