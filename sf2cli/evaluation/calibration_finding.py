"""What a report says of the probabilities that a SphereFace2 head gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sf2cli.evaluation.calibration import BINS, Calibration, calibrate, readings
from sf2cli.evaluation.evaluate import MODEL, Result
from sf2cli.evaluation.finding import Chart, Finding, Origin, share
from sf2cli.evaluation.report.panel import Table

_READ = {
    "trained": "trained r, b",
    "prior": "trained r, b; prior of the list",
}
DEFINITIONS = {
    "trained r, b": (
        "P(same) = sigmoid(r g(s) + b) of a similarity s, with g(s) = 2 ((s + 1) / 2)^t - 1 and the"
        " bias b that training left: what the trained classifiers say of an image and an identity's"
        " row, with the other image of the pair in the row's place. Its threshold is where P(same)"
        " is 1/2. Nothing is tuned on the list."
    ),
    "trained r, b; prior of the list": (
        "The same with training's weights undone: without a margin the loss is least where"
        " logit P = r g(s) + b - ln(lambda / (1 - lambda)) at training's prior of one in K classes;"
        " ln(K - 1) takes that prior out and the log-odds of the list's share of genuine pairs put"
        " its own in. The margin, which leaves the loss flat between the two kinds, is not undone."
    ),
    "tuned": (
        "The threshold that is best for these very pairs, and over ten folds the mean accuracy at"
        " the threshold that is best on the nine others."
    ),
    "ECE": (
        f"Expected calibration error: the pairs in {BINS} bins of equally many by probability; the"
        " mean over all pairs of the distance between a bin's mean probability and its share of"
        " genuine pairs. 0 is perfect."
    ),
    "Brier": "Mean squared difference of P(same) and the truth (1 or 0). 0 is perfect.",
}


def calibration(result: Result, head: Mapping[str, Any]) -> Finding | None:
    """The readings of `head` on a list of pairs; None for a head that has none."""
    pairs, scored = result.pairs, result.scored[MODEL]
    found = [
        calibrate(scored.split, reading)
        for reading in readings(head, prior=pairs.genuine / len(pairs))
    ]
    if not found:
        return None
    tuned = scored.found
    rows = [
        ["tuned on these pairs", _similarity(tuned.best_threshold), share(tuned.best_accuracy)],
        ["tuned over ten folds", "-", share(tuned.accuracy)],
    ]
    table = Table(
        "Accuracy and calibration error",
        ["", "threshold", "accuracy", "ECE", "Brier"],
        [*([*row, "-", "-"] for row in rows), *(_row(one) for one in found)],
    )
    return Finding(
        origin=Origin(
            f"{pairs.name}: calibration",
            "calibration",
            pairs.source,
            pairs.data_sha256,
            pairs.hashed,
            pairs.credit,
        ),
        heading=f"{pairs.name}: calibration",
        counts=(
            f"P(same) by the trained head on {pairs.genuine:,} genuine and {pairs.impostor:,}"
            " impostor pairs"
        ),
        numbers={
            "results": {
                "tuned": {
                    "threshold": tuned.best_threshold,
                    "accuracy": tuned.best_accuracy,
                    "accuracy_over_folds": tuned.accuracy,
                },
                **{one.reading: asdict(one) for one in found},
            }
        },
        table=table,
        details=[table],
        charts=[
            Chart(
                f"Reliability: {BINS} bins of equally many pairs. The diagonal is perfect.",
                "mean P(same) of a bin",
                "share of genuine pairs",
                {_READ[one.reading]: _curve(one) for one in found},
                diagonal=True,
            )
        ],
        notes=[
            f"{_READ[one.reading]}: no similarity gives P(same) = 1/2, so that all pairs are"
            " called alike."
            for one in found
            if one.threshold is None
        ],
        definitions=DEFINITIONS,
    )


def _row(one: Calibration) -> list[str]:
    return [
        _READ[one.reading],
        _similarity(one.threshold),
        share(one.accuracy),
        f"{one.ece:.4f}",
        f"{one.brier:.4f}",
    ]


def _similarity(threshold: float | None) -> str:
    return "-" if threshold is None else f"{threshold:.4f}"


def _curve(one: Calibration) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([part.probability for part in one.bins]),
        np.array([part.genuine for part in one.bins]),
    )
