"""From results to panels: which module knows which kind of result."""

from __future__ import annotations

from sf2cli.evaluation.evaluate import Evaluation
from sf2cli.evaluation.report.finding_panel import finding_panel
from sf2cli.evaluation.report.panel import Panel
from sf2cli.evaluation.report.verification_panel import verification_panel


def panels(evaluation: Evaluation) -> list[Panel]:
    """A panel for each result, in the order of the report.

    Raises:
        Sf2Error: an image of a pair to show can no longer be read.
    """
    return [
        *(verification_panel(result, evaluation.card) for result in evaluation.results),
        *(finding_panel(finding) for finding in evaluation.findings),
    ]
