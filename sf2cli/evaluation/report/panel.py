"""What a protocol's result becomes in a report, whatever the protocol.

The page, report.json, the terminal and the tables for papers are put together from panels alone. A
new kind of result needs a module that makes its panel, and a line in `panels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; notes go below. The first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One result in every form that a report has it.

    Args:
        name: the set's, for headings.
        entry: its part of report.json: every number, with the counts it rests on.
        table: for the terminal, Markdown and LaTeX.
        headline: its rows at the top of the page; panels whose columns are the same share a table.
        body: HTML for below its heading on the page.
        definitions: what each of its words and numbers means, by name.
    """

    name: str
    entry: JsonObject
    table: Table
    headline: Table
    body: str
    definitions: dict[str, str]
