"""All pairs of a large packed set, counted block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.counted import Counted, count_all_pairs
from sf2cli.evaluation.finding import Chart, Finding, Origin, share, thinned
from sf2cli.evaluation.measure import FARS, with_binomial
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.tables import BINOMIAL, tar_columns, tar_details, wanting

DEFINITIONS = {
    "all pairs, counted": (
        "Of a set with more than 10,000 images the genuine scores are kept and the impostor pairs"
        " counted at each of them, block by block. TAR at FAR, EER, AUC and the best accuracy"
        " depend on nothing else, and are exact. Thresholds are the nearest genuine scores."
    ),
    "best accuracy": (
        "The share of pairs told right by the one threshold that is best for these very pairs."
    ),
    "interval of a rate": BINOMIAL,
}


@dataclass(frozen=True)
class ManyPairs:
    """The protocol on one set."""

    origin: Origin
    faces: PackedSet
    baseline: bool = False

    @classmethod
    def of(cls, packed: PackedSet) -> ManyPairs:
        """All pairs of a packed set."""
        return cls(Origin.of(packed, "all pairs, counted"), packed)

    def measure(self, rows: Mapping[str, NDArray[Any]]) -> list[Finding]:
        """See `Task.measure`."""
        return [self._finding(name, mine) for name, mine in rows.items()]

    def _finding(self, name: str, rows: NDArray[Any]) -> Finding:
        origin, description = self.origin, f"{self.origin.name}: compare, {name}"
        found = count_all_pairs(unit_rows(rows), self.faces.labels, description)
        genuine = len(found.genuine)
        targets = with_binomial(tuple(found.tar_at_far(far) for far in FARS), genuine)
        rate, threshold = found.eer()
        best, best_threshold = found.best_accuracy()
        area = found.auc()
        return Finding(
            origin=origin,
            heading=f"{origin.name}: all pairs",
            counts=(
                f"all pairs, counted, {len(self.faces):,} images of"
                f" {self.faces.manifest.num_identities:,} identities, {genuine:,} genuine and"
                f" {found.impostors:,} impostor pairs"
            ),
            numbers={
                "images": len(self.faces),
                "identities": self.faces.manifest.num_identities,
                "genuine": genuine,
                "impostor": found.impostors,
                "results": {
                    name: {
                        "eer": rate,
                        "eer_threshold": threshold,
                        "auc": area,
                        "best_accuracy": best,
                        "best_threshold": best_threshold,
                        "tar_at_far": [asdict(one) for one in targets],
                        "det": _det(found),
                    }
                },
            },
            table=Table(
                "",
                ["", "EER", "AUC", "best\naccuracy", *tar_columns(FARS)],
                [
                    [
                        name,
                        share(rate),
                        f"{area:.4f}",
                        share(best),
                        *(share(one.tar) for one in targets),
                    ]
                ],
            ),
            details=[tar_details("TAR at FAR", {name: targets}, genuine)],
            charts=[_roc(name, found), _histogram(found)],
            notes=[
                *wanting(targets),
                "The raw pixels are not compared, nor an accuracy over folds given, for so many"
                " pairs.",
            ],
            definitions=DEFINITIONS,
        )


def _det(found: Counted) -> dict[str, list[float]]:
    """Exact points of the DET curve by falling threshold, most of them where FAR is small."""
    far = found.reaching[::-1] / found.impostors
    lowest = far[far > 0].min(initial=1)
    picked = np.unique(np.searchsorted(far, np.geomspace(lowest, 1, 400))).clip(max=len(far) - 1)
    return {
        "far": far[picked].tolist(),
        "frr": (1 - found.accepted[::-1][picked] / len(found.genuine)).tolist(),
        "threshold": found.scores[::-1][picked].tolist(),
    }


def _roc(name: str, found: Counted) -> Chart:
    # The last point accepts all.
    far = np.append(found.reaching[::-1] / found.impostors, 1)
    tar = np.append(found.accepted[::-1] / len(found.genuine), 1)
    # Evenly along the logarithm of FAR.
    picked = np.unique(np.searchsorted(far, np.geomspace(far[far > 0].min(), 1, 400)))
    return Chart(
        "ROC: the share of genuine pairs accepted for each share of impostors.",
        "FAR (false accept rate, log scale)",
        "TAR (true accept rate)",
        {name: (far[picked], tar[picked])},
        log_x=True,
    )


def _histogram(found: Counted) -> Chart:
    middles = (found.edges[1:] + found.edges[:-1]) / 2
    genuine = len(found.genuine) - np.searchsorted(found.genuine, found.edges, side="left")
    kinds = {"genuine": genuine, "impostor": found.above_edges}
    shares = {
        kind: (middles, -np.diff(above) / max(int(above[0]), 1)) for kind, above in kinds.items()
    }
    return Chart(
        f"Similarity of the two kinds of pairs, in {len(middles)} steps.",
        "similarity (cosine)",
        "share of the pairs of a kind",
        {kind: (thinned(x), thinned(y)) for kind, (x, y) in shares.items()},
        x_kind="plain",
    )
