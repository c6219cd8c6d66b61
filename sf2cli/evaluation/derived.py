"""What follows from the results of pairs without another embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sf2cli.evaluation.calibration_finding import calibration
from sf2cli.evaluation.combined import combine
from sf2cli.evaluation.conventions import Convention
from sf2cli.evaluation.evaluate import Result
from sf2cli.evaluation.finding import Finding


def derived(
    results: Sequence[Result], head: Mapping[str, Any], *, combined: bool, convention: Convention
) -> list[Finding]:
    """The combined list of all sets but all pairs of one, and each set's calibration.

    Args:
        results: of sets of pairs.
        head: the model's head, as on its card.
        combined: whether to pool the lists.
        convention: whose TAR at FAR the pool gets.
    """
    lists = [result for result in results if not result.pairs.all_pairs]
    found = [combine(lists, convention, head)] if combined and lists else []
    calibrations = (calibration(result, head) for result in results)
    return [*found, *(one for one in calibrations if one is not None)]
