"""The panel of a set of pairs."""

from __future__ import annotations

import math
from dataclasses import asdict

from sf2cli.evaluation.conventions import SIGNS, Convention
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.evaluate import Result
from sf2cli.evaluation.measure import Verification, percent
from sf2cli.evaluation.report.definitions import by_convention, definitions
from sf2cli.evaluation.report.markup import grid, plot, sentence, text
from sf2cli.evaluation.report.panel import JsonObject, Panel, Table
from sf2cli.evaluation.report.pictures import pictures
from sf2cli.evaluation.report.plots import curves, det_plot, histogram, roc_plot
from sf2cli.evaluation.tables import interval_text, tar_columns


def verification_panel(result: Result, card: EmbedderCard) -> Panel:
    """All that a report says of one set of pairs.

    Raises:
        Sf2Error: an image of a pair to show can no longer be read.
    """
    found = {name: scored.found for name, scored in result.scored.items()}
    return Panel(
        name=result.pairs.name,
        entry=_entry(result),
        table=_table(result),
        headline=Table(
            title=result.pairs.name,
            columns=["", "EER", f"{_kind(result)} accuracy", "AUC"],
            rows=[
                [name, rate(one.eer), accuracy(one), f"{one.auc:.4f}"]
                for name, one in found.items()
            ],
        ),
        body=_body(result, card),
        definitions=definitions(card) | by_convention(_convention(result)),
    )


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
    """Accuracy over ten folds with its standard deviation; opensphere's is of one threshold."""
    if found.convention == "opensphere":
        return rate(found.best_accuracy)
    if found.accuracy is None or found.accuracy_std is None:
        return "-"
    return f"{found.accuracy:.2%} ± {found.accuracy_std:.2%}"


def _convention(result: Result) -> Convention:
    return next(iter(result.scored.values())).found.convention


def _kind(result: Result) -> str:
    return "best" if _convention(result) == "opensphere" else "10-fold"


def _entry(result: Result) -> JsonObject:
    pairs = result.pairs
    return {
        "name": pairs.name,
        "protocol": pairs.protocol,
        "source": str(pairs.source),
        "data_sha256": pairs.data_sha256,
        "data_sha256_of": pairs.hashed,
        "images": len(pairs.faces),
        "identities": pairs.identities,
        "genuine": pairs.genuine,
        "impostor": pairs.impostor,
        "folds": pairs.folds,
        "results": {name: asdict(scored.found) for name, scored in result.scored.items()},
        "notes": result.notes,
        "credit": pairs.credit,
    }


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
            f"{_kind(result)}\naccuracy",
            *tar_columns(fars, _convention(result)),
        ],
        rows=[
            [
                name,
                rate(one.eer),
                f"{one.auc:.4f}",
                accuracy(one),
                *(rate(target.tar) for target in one.tar_at_far),
            ]
            for name, one in found.items()
        ],
        notes=result.notes,
    )


def _body(result: Result, card: EmbedderCard) -> str:
    notes = "".join(f'<p class="soft">{text(note)}</p>' for note in result.notes)
    credit = f" Faces: {text(result.pairs.credit)}." if result.pairs.credit else ""
    drawn = curves(result)
    drawings = (
        (roc_plot(drawn), "ROC: the share of genuine pairs accepted for each share of impostors."),
        (det_plot(drawn), "DET: the two kinds of error against each other. Lower is better."),
        (histogram(result), "Similarity of the two kinds of pairs, by the model."),
    )
    plots = "".join(plot(svg, caption) for svg, caption in drawings)
    return f"""
<p>{text(sentence(counts(result)))}{credit}</p>
{_targets(result)}{notes}
<div class="plots">{plots}</div>
{pictures(result, card)}"""


def _targets(result: Result) -> str:
    """TAR of each contender, a row a target, with the false accepts that the target allows."""
    columns = [scored.found.tar_at_far for scored in result.scored.values()]
    rows = []
    for targets in zip(*columns, strict=True):
        far, impostors = targets[0].far, targets[0].impostors
        measured = targets[0].tar is not None
        allowed = f"{math.floor(far * impostors + 1e-6):,}" if measured else "under 1"
        tars = [
            text
            for target in targets
            for text in (rate(target.tar), interval_text(target.interval))
        ]
        sign = SIGNS[_convention(result)]
        rows.append([f"{sign} {percent(far)}", f"{allowed} of {impostors:,}", *tars])
    names = [text for name in result.scored for text in (f"TAR, {name}", "95 % interval")]
    return grid(["FAR", "False accepts allowed", *names], rows)
