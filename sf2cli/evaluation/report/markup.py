"""Pieces of HTML that every part of the page is made of."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Anything as text that stands for itself in HTML."""
    return html.escape(str(value))


def terms(entries: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what is said of each."""
    return f"<dl>{''.join(f'<dt>{text(k)}</dt><dd>{text(v)}</dd>' for k, v in entries)}</dl>"


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is wider than the page."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return scrolling(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")


def scrolling(content: str) -> str:
    """The content of a table, in a table that scrolls by itself."""
    return f'<div class="wide"><table>{content}</table></div>'


def plot(svg: str, caption: str) -> str:
    """A drawing with the words below it."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{text(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def sentence(words: str) -> str:
    """Words with a capital and a full stop."""
    return f"{words[0].upper()}{words[1:]}."
