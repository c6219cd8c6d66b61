"""Results as rows of text, for the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from sf2cli.evaluation.evaluate import Evaluation, Result
from sf2cli.evaluation.measure import Verification, percent


@dataclass(frozen=True)
class Table:
    """One set's result: a row for the model, a row for the baseline; notes go below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(evaluation: Evaluation) -> list[Table]:
    """A table for each set, in the order of the report."""
    return [_table(result) for result in evaluation.results]


def _table(result: Result) -> Table:
    found = {name: scored.found for name, scored in result.scored.items()}
    fars = [entry.far for entry in next(iter(found.values())).tar_at_far]
    return Table(
        title=f"{result.pairs.name}: {counts(result)}",
        columns=[
            "",
            "EER",
            "AUC",
            # Broken by hand, so that a terminal of 80 columns breaks no word.
            "10-fold\naccuracy",
            *(f"TAR at\nFAR\n≤ {percent(far)}" for far in fars),
        ],
        rows=[[name, *_cells(one)] for name, one in found.items()],
        notes=result.notes,
    )


def _cells(found: Verification) -> list[str]:
    tars = [rate(entry.tar) for entry in found.tar_at_far]
    return [rate(found.eer), f"{found.auc:.4f}", accuracy(found), *tars]


def counts(result: Result) -> str:
    """On what the numbers were counted, in words."""
    pairs = result.pairs
    of = f" of {pairs.identities:,} identities" if pairs.identities else ""
    return (
        f"{pairs.protocol}, {len(pairs.faces):,} images{of},"
        f" {pairs.genuine:,} genuine and {pairs.impostor:,} impostor pairs"
    )


def rate(share: float | None) -> str:
    """A measured share in percent; a dash where it could not be measured."""
    return "-" if share is None else f"{share:.2%}"


def accuracy(found: Verification) -> str:
    """Accuracy over ten folds with its standard deviation."""
    if found.accuracy is None or found.accuracy_std is None:
        return "-"
    return f"{found.accuracy:.2%} ± {found.accuracy_std:.2%}"
