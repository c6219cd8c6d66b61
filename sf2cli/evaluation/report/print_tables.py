"""Tables as text to paste: Markdown, or LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from sf2cli.evaluation.report.panel import Table

FORMATS = ("md", "latex")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
}


def as_text(tables: Sequence[Table], form: str) -> str:
    """The tables one after the other, with their titles and notes; `form` is one of FORMATS."""
    render = _markdown if form == "md" else _latex
    return "\n\n".join(render(table) for table in tables)


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_one_line(cell).replace('|', '&#124;') for cell in cells)} |"

    rule = f"|---|{'---:|' * (len(table.columns) - 1)}"
    lines = [table.title, "", line(table.columns), rule, *map(line, table.rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)])


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return rf"{' & '.join(_escaped(_one_line(cell)) for cell in cells)} \\"

    return "\n".join(
        [
            f"% {table.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {note}" for note in table.notes),
        ]
    )


def _one_line(cell: str) -> str:
    return cell.replace("\n", " ")


def _escaped(cell: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in cell)
