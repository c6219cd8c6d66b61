"""The metrics of one model of a study, on identities it has not seen."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.counted import count_all_pairs
from sf2cli.evaluation.identification import search, tpir_at_fpir
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.open_set import draw

# Of one draw of gallery and strangers, for all runs alike.
_SEED = 0
_FARS = (1e-3, 1e-4)
_FPIR = 1e-2
# How the fonts source marks images in fonts that no training set has.
_UNSEEN = "unseen-"


def measure(model: Path, test: Path) -> dict[str, float]:
    """EER and TAR at FAR over all pairs, and open-set TPIR at FPIR, in percent.

    Of a set that the fonts source made, also the first two over the pairs of unseen fonts alone. A
    number that the set is too small for is left out.

    Raises:
        Sf2Error: a model or set that cannot be read.
    """
    packed = PackedSet.open(test)
    rows = unit_rows(open_embedder(model).embed(packed, "embed"))
    found = _verification(rows, packed.labels, "")
    drawn = draw(packed.labels, _SEED)
    one = search(
        rows[drawn.probes],
        packed.labels[drawn.probes],
        rows[drawn.gallery],
        packed.labels[drawn.gallery],
        "identify",
    )
    tpir = tpir_at_fpir(one, _FPIR).tpir
    if tpir is not None:
        found[f"TPIR at FPIR {_FPIR:g}"] = 100 * tpir
    unseen = np.array([_UNSEEN in packed.source(i).rpartition("/")[2] for i in range(len(packed))])
    if unseen.any() and not unseen.all():
        found |= _verification(rows[unseen], packed.labels[unseen], "unseen fonts, ")
    return found


def throughput(run: Path) -> float:
    """Images a second over all ranks: the median of the steps that the run logged."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [step["images_per_s"] for step in map(json.loads, lines) if "images_per_s" in step]
    return float(statistics.median(rates))


def _verification(
    rows: NDArray[np.float32], labels: NDArray[np.int64], prefix: str
) -> dict[str, float]:
    counted = count_all_pairs(rows, labels, "compare")
    found = {f"{prefix}EER": 100 * counted.eer()[0]}
    for far in _FARS:
        tar = counted.tar_at_far(far).tar
        if tar is not None:
            found[f"{prefix}TAR at FAR {far:g}"] = 100 * tar
    return found
