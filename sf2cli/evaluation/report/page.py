"""report.html: one file that opens without a network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable
from typing import Any

from sf2cli.evaluation.evaluate import Evaluation, Result
from sf2cli.evaluation.measure import percent
from sf2cli.evaluation.report.pictures import pictures
from sf2cli.evaluation.report.plots import histogram, roc_plot
from sf2cli.evaluation.report.style import STYLE
from sf2cli.evaluation.report.table import accuracy, counts, rate


def page(evaluation: Evaluation, document: dict[str, Any]) -> str:
    """The whole page, of the same results as `document`, the content of report.json.

    Raises:
        Sf2Error: an image of a pair to show can no longer be read.
    """
    backbone = evaluation.card.backbone
    sections = "".join(
        _section(number, result, evaluation) for number, result in enumerate(evaluation.results)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Face verification: {_text(evaluation.model)}</title><style>{STYLE}</style></head><body>
<h1>Face verification</h1>
<p>Model {_text(evaluation.model)} ({_text(backbone.name)}, {backbone.embedding_size} dimensions)
beside the raw pixels as a baseline. Every term is defined <a href="#definitions">below</a>.</p>
{_summary(evaluation)}{sections}
<h2 id="definitions">Definitions</h2>{_terms(document["definitions"].items())}
<h2>How this report was made</h2>{_terms(_origins(document))}
</body></html>
"""


def _summary(evaluation: Evaluation) -> str:
    groups = []
    for number, result in enumerate(evaluation.results):
        rows = "".join(
            f"<tr><td>{_text(name)}</td><td>{rate(scored.found.eer)}</td>"
            f"<td>{accuracy(scored.found)}</td><td>{scored.found.auc:.4f}</td></tr>"
            for name, scored in result.scored.items()
        )
        title = f'<a href="#set-{number}">{_text(result.pairs.name)}</a>'
        groups.append(f'<tbody><tr><th colspan="4">{title}</th></tr>{rows}</tbody>')
    head = "<th></th><th>EER</th><th>10-fold accuracy</th><th>AUC</th>"
    return f"<table><thead><tr>{head}</tr></thead>{''.join(groups)}</table>"


def _section(number: int, result: Result, evaluation: Evaluation) -> str:
    notes = "".join(f'<p class="soft">{_text(note)}</p>' for note in result.notes)
    credit = f" Faces: {_text(result.pairs.credit)}." if result.pairs.credit else ""
    roc = "ROC: the share of genuine pairs accepted, for each share of impostor pairs accepted."
    spread = "Similarity of genuine and of impostor pairs, by the model. Less overlap is better."
    return f"""
<h2 id="set-{number}">{_text(result.pairs.name)}</h2>
<p>{_text(_sentence(counts(result)))}{credit}</p>
{_tar_table(result)}{notes}
<div class="plots">{_plot(roc_plot(result), roc)}{_plot(histogram(result), spread)}</div>
{pictures(result, evaluation.card.backbone)}"""


def _tar_table(result: Result) -> str:
    """TAR of each contender, a row a target, with the false accepts that the target allows."""
    columns = [scored.found.tar_at_far for scored in result.scored.values()]
    rows = []
    for targets in zip(*columns, strict=True):
        far, impostors = targets[0].far, targets[0].impostors
        measured = targets[0].tar is not None
        allowed = f"{math.floor(far * impostors + 1e-6):,}" if measured else "under 1"
        cells = "".join(f"<td>{rate(target.tar)}</td>" for target in targets)
        rows.append(f"<tr><td>≤ {percent(far)}</td><td>{allowed} of {impostors:,}</td>{cells}</tr>")
    names = "".join(f"<th>TAR, {_text(name)}</th>" for name in result.scored)
    head = f"<th>FAR</th><th>False accepts allowed</th>{names}"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _plot(svg: str, caption: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _origins(document: dict[str, Any]) -> list[tuple[str, str]]:
    model = document["model"]
    return [
        *document["made_by"].items(),
        ("model", f"{model['folder']}, sha256 {model['weights_sha256']} of the weights"),
        *(
            (
                entry["name"],
                f"{entry['source']}, sha256 {entry['data_sha256']} of {entry['data_sha256_of']}",
            )
            for entry in document["sets"]
        ),
    ]


def _terms(entries: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in entries)}</dl>"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _text(value: object) -> str:
    return html.escape(str(value))
