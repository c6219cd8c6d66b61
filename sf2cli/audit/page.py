"""audit.html: one file that opens without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from sf2cli.audit.finding import Entry, Finding
from sf2cli.data.images import BadImageError, decode_image, encode_png, resize
from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.report.style import STYLE

SHOWN = 24
_EDGE = 96
_PICTURES = 8
_FIGURES = """
.finds { display: flex; flex-wrap: wrap; gap: 1rem; }
.finds figure { margin: 0; padding: .5rem; border: 1px solid var(--line); max-width: 100%; }
.finds figure > div { display: flex; flex-wrap: wrap; gap: .4rem; }
.finds div div { width: 6rem; }
.finds img { width: 6rem; height: 6rem; object-fit: contain; background: #eee; display: block; }
.finds span { font-size: .75rem; line-height: 1.3; color: var(--soft); display: block; }
"""


def page(heading: str, sentence: str, findings: Sequence[Finding]) -> str:
    """The whole page: how much was found of what, then the first of each with pictures.

    Raises:
        Sf2Error: a shard can no longer be read.
    """
    rows = "".join(
        f'<tr><td><a href="#{one.name}">{_text(one.title)}</a></td><td>{len(one.entries):,}</td>'
        f"<td>{len(one.drop):,}</td></tr>"
        for one in findings
    )
    head = "<th></th><th>Found</th><th>Lines in drop.txt</th>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(heading)}</title><style>{STYLE}{_FIGURES}</style></head><body>
<h1>{_text(heading)}</h1>
<p>{_text(sentence)}</p>
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
{"".join(_section(one) for one in findings if one.entries)}
</body></html>
"""


def _section(finding: Finding) -> str:
    more = len(finding.entries) - SHOWN
    rest = f'<p class="soft">and {more:,} more in audit.json</p>' if more > 0 else ""
    shown = finding.entries[:SHOWN]
    pictured = any(entry.pictures for entry in shown)
    body = (
        f'<div class="finds">{"".join(map(_figure, shown))}</div>'
        if pictured
        else f"<ul>{''.join(f'<li>{_text(entry.caption)}</li>' for entry in shown)}</ul>"
    )
    return f"""<h2 id="{finding.name}">{_text(finding.title)}: {len(finding.entries):,}</h2>
<p>{_text(finding.meaning)}</p>{body}{rest}
"""


def _figure(entry: Entry) -> str:
    pictures = "".join(_picture(packed, i) for packed, i in entry.pictures[:_PICTURES])
    return f"<figure><div>{pictures}</div><figcaption>{_text(entry.caption)}</figcaption></figure>"


def _picture(packed: PackedSet, i: int) -> str:
    name = _text(packed.source(i))
    label = name.replace("/", "/<wbr>").replace("_", "_<wbr>")
    try:
        pixels = decode_image(packed.read(i), 3)
    except BadImageError:
        return f"<div><span>{label}</span></div>"
    if max(pixels.shape) > _EDGE:
        pixels = resize(pixels, _EDGE)
    data = base64.b64encode(encode_png(pixels)).decode()
    return f'<div><img alt="{name}" src="data:image/png;base64,{data}"><span>{label}</span></div>'


def _text(value: object) -> str:
    return html.escape(str(value))
