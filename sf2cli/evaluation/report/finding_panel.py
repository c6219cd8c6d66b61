"""The panel of any finding."""

from __future__ import annotations

from sf2cli.evaluation.finding import Finding
from sf2cli.evaluation.report.chart import chart_plot
from sf2cli.evaluation.report.markup import grid, plot, sentence, text
from sf2cli.evaluation.report.panel import Panel, Table


def finding_panel(finding: Finding) -> Panel:
    """All that a report says of a finding."""
    origin, table = finding.origin, finding.table
    return Panel(
        name=finding.heading,
        entry={
            "name": finding.heading,
            "protocol": origin.protocol,
            "source": str(origin.source),
            "data_sha256": origin.data_sha256,
            "data_sha256_of": origin.hashed,
            "counts": finding.counts,
            **finding.numbers,
            "notes": list(finding.notes),
            "credit": origin.credit,
        },
        table=Table(
            f"{finding.heading}: {finding.counts}", table.columns, table.rows, finding.notes
        ),
        headline=Table(
            finding.heading, [column.replace("\n", " ") for column in table.columns], table.rows
        ),
        body=_body(finding),
        definitions=dict(finding.definitions),
    )


def _body(finding: Finding) -> str:
    credit = f" Faces: {text(finding.origin.credit)}." if finding.origin.credit else ""
    notes = "".join(f'<p class="soft">{text(note)}</p>' for note in finding.notes)
    details = "".join(
        f"<h3>{text(table.title)}</h3>{grid(table.columns, table.rows)}"
        for table in finding.details
    )
    charts = "".join(plot(chart_plot(chart), chart.caption) for chart in finding.charts)
    return f"""
<p>{text(sentence(finding.counts))}{credit}</p>
{details}{notes}
<div class="plots">{charts}</div>"""
