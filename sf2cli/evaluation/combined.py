"""Several sets of pairs as one list under one threshold: the paper's combined validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli.evaluation.calibration import calibrate, readings
from sf2cli.evaluation.conventions import TAR_RULES, Convention, single_threshold, tars_at_fars
from sf2cli.evaluation.evaluate import MODEL, Result
from sf2cli.evaluation.finding import Finding, Origin, share
from sf2cli.evaluation.kept import KeptPairs
from sf2cli.evaluation.measure import FARS, det, draw_folds, with_binomial
from sf2cli.evaluation.report.panel import JsonObject, Table
from sf2cli.evaluation.tables import (
    BINOMIAL,
    det_chart,
    roc_chart,
    tar_columns,
    tar_details,
    wanting,
)
from sf2cli.evaluation.tenfold import tenfold_accuracy
from sf2cli.evaluation.verification import SortedScores, auc, eer

DEFINITIONS = {
    "combined": (
        "The pairs of several sets pooled into one list and judged by one threshold, as in the"
        " SphereFace2 paper (LFW, AgeDB-30, CALFW and CPLFW; CFP-FP is not part of it)."
    ),
    "best accuracy": (
        "The share of pairs told right by the one threshold that is best for these very pairs: the"
        " paper's and opensphere's number. It is a little higher than one over folds."
    ),
    "combined, trained r, b": (
        "The accuracy at the threshold that training left in a SphereFace2 head, nothing tuned."
    ),
    "interval of a rate": BINOMIAL,
}


def combine(results: Sequence[Result], convention: Convention, head: Mapping[str, Any]) -> Finding:
    """The pool of all pairs of `results`, each fold holding that fold of every set.

    Args:
        results: of sets of pairs.
        convention: whose TAR at FAR.
        head: the model's, whose own threshold, if it has one, is tried as well.
    """
    names = [result.pairs.name for result in results]
    same = np.concatenate([result.pairs.issame for result in results])
    parts = [draw_folds(result.pairs) for result in results]
    known = [part for part in parts if part is not None]
    folds = np.concatenate(known) if len(known) == len(parts) else None
    pools: dict[str, SortedScores] = {}
    numbers: JsonObject = {}
    rows, targets, apart = [], {}, []
    for name in results[0].scored:
        scores = np.concatenate(
            [result.scored[name].scores.astype(np.float64) for result in results]
        )
        pool = pools[name] = SortedScores.of(scores, same)
        best = single_threshold(pool)
        tenfold = None if folds is None else tenfold_accuracy(2 - 2 * scores, same, folds=folds)
        tars = with_binomial(tars_at_fars(pool, FARS, convention), len(pool.genuine))
        targets[name] = tars
        numbers[name] = {
            "best_accuracy": best.accuracy,
            "best_threshold": best.threshold,
            "accuracy": tenfold.mean if tenfold else None,
            "accuracy_std": tenfold.std if tenfold else None,
            "eer": eer(pool).rate,
            "auc": auc(pool),
            "tar_at_far": [asdict(one) for one in tars],
            "det": asdict(det(pool)),
            "accuracy_of_each": _each(results, name, best.threshold),
        }
        rows.append(
            [
                name,
                share(best.accuracy),
                share(tenfold.mean if tenfold else None),
                share(numbers[name]["eer"]),
                *(share(one.tar) for one in tars),
            ]
        )
        each = numbers[name]["accuracy_of_each"]
        apart.append([name, *(share(each[one]) for one in names)])
    trained = readings(head, prior=0.5)[:1]
    for reading in trained:
        own = calibrate(pools[MODEL], reading)
        each = _each(results, MODEL, own.threshold)
        numbers["trained"] = {**asdict(own), "accuracy_of_each": each}
        apart.append([f"{MODEL}, trained r, b", *(share(each[one]) for one in names)])
        rows.append([f"{MODEL}, trained r, b", share(own.accuracy), *["-"] * (2 + len(FARS))])
    genuine = int(same.sum())
    return Finding(
        origin=_origin(results),
        heading="combined",
        counts=(
            f"the pairs of {', '.join(names)} under one threshold, {genuine:,} genuine and"
            f" {len(same) - genuine:,} impostor pairs"
        ),
        numbers={"sets": names, "convention": convention, "results": numbers},
        table=Table(
            "",
            ["", "best\naccuracy", "10-fold\naccuracy", "EER", *tar_columns(FARS, convention)],
            rows,
        ),
        details=[
            Table("Accuracy of each set at the threshold of all", ["", *names], apart),
            tar_details("TAR at FAR", targets, genuine, convention),
        ],
        charts=[roc_chart(pools), det_chart(pools)],
        notes=wanting(next(iter(targets.values()))),
        definitions={**DEFINITIONS, "TAR at FAR": TAR_RULES[convention]},
        kept=KeptPairs(np.concatenate([one.scored[MODEL].scores for one in results]), same),
    )


def _each(results: Sequence[Result], name: str, threshold: float | None) -> Mapping[str, float]:
    limit = np.inf if threshold is None else threshold
    return {
        result.pairs.name: float(
            ((result.scored[name].scores.astype(np.float64) >= limit) == result.pairs.issame).mean()
        )
        for result in results
    }


def _origin(results: Sequence[Result]) -> Origin:
    digest = hashlib.sha256()
    for result in results:
        digest.update(bytes.fromhex(result.pairs.data_sha256))
    sources = [str(result.pairs.source) for result in results]
    return Origin(
        name="combined",
        protocol="combined",
        source=Path(" + ".join(sources)),
        data_sha256=digest.hexdigest(),
        hashed="the sets' hashes, in order",
    )
