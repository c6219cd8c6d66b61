"""report.html: one file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence

from sf2cli.evaluation.evaluate import Evaluation
from sf2cli.evaluation.report.markup import scrolling, terms, text
from sf2cli.evaluation.report.panel import JsonObject, Panel
from sf2cli.evaluation.report.style import STYLE


def page(evaluation: Evaluation, panels: Sequence[Panel], document: JsonObject) -> str:
    """The whole page, of the same panels as `document`, the content of report.json."""
    card = evaluation.card
    size = f", {card.embedding_size} dimensions" if card.embedding_size else ""
    sections = "".join(
        f'\n<h2 id="set-{number}">{text(panel.name)}</h2>{panel.body}'
        for number, panel in enumerate(panels)
    )
    return frame(
        "Face recognition",
        str(card.place),
        f"""<p>Model {text(card.place)} ({text(card.network)}, {text(card.kind)}{size})
beside the raw pixels as a baseline. Every term is defined <a href="#definitions">below</a>.</p>
{warning_list(evaluation.warnings)}{_summary(panels)}{sections}
<h2 id="definitions">Definitions</h2>{terms(document["definitions"].items())}
<h2>How this report was made</h2>{terms(_origins(document))}""",
    )


def frame(heading: str, of: str, body: str) -> str:
    """A page around `body`."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(heading)}: {text(of)}</title><style>{STYLE}</style></head><body>
<h1>{text(heading)}</h1>
{body}
</body></html>
"""


def warning_list(warnings: Sequence[str]) -> str:
    """What the self-check has to say; nothing for nothing."""
    if not warnings:
        return ""
    return f"<ul class='warnings'>{''.join(f'<li>{text(one)}</li>' for one in warnings)}</ul>"


def _summary(panels: Sequence[Panel]) -> str:
    """The panels' headlines; those with the same columns in one table."""
    tables: dict[tuple[str, ...], list[str]] = {}
    for number, panel in enumerate(panels):
        columns = panel.headline.columns
        title = f'<a href="#set-{number}">{text(panel.headline.title)}</a>'
        rows = "".join(
            f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>"
            for row in panel.headline.rows
        )
        group = f'<tbody><tr><th colspan="{len(columns)}">{title}</th></tr>{rows}</tbody>'
        tables.setdefault(tuple(columns), []).append(group)
    return "".join(
        scrolling(
            f"<thead><tr>{''.join(f'<th>{text(c)}</th>' for c in columns)}</tr></thead>"
            + "".join(groups)
        )
        for columns, groups in tables.items()
    )


def _origins(document: JsonObject) -> list[tuple[str, str]]:
    model = document["model"]
    return [
        *document["made_by"].items(),
        ("model", f"{model['place']}, sha256 {model['weights_sha256']} of the weights"),
        *(
            (
                entry["name"],
                f"{entry['source']}, sha256 {entry['data_sha256']} of {entry['data_sha256_of']}",
            )
            for entry in document["sets"]
        ),
    ]
