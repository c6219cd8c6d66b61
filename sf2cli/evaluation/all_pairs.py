"""All pairs of a held-out packed set, and the metrics over them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.backbones.saved import load_model
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import embed_set
from sf2cli.evaluation.tenfold import stratified_folds, tenfold_accuracy
from sf2cli.evaluation.verification import SortedScores, auc, eer, tar_at_far

# Scores of all pairs are sorted in memory, about 20 bytes a pair.
MAX_IMAGES = 10_000
FARS = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class PairScores:
    """Pairs (first, second) of images with their cosine and whether they are one identity."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    score: NDArray[np.float32]
    issame: NDArray[np.bool_]


@dataclass(frozen=True)
class Evaluation:
    """A model and the raw-pixel baseline on all pairs of one set."""

    packed: PackedSet
    model: PairScores
    pixels: PairScores
    report: dict[str, Any]


def evaluate(model_folder: Path, set_folder: Path) -> Evaluation:
    """Embed the set, compare every pair i < j, and measure.

    Raises:
        Sf2Error: an unreadable model or set, more than MAX_IMAGES images, or a set without
            genuine or without impostor pairs.
    """
    model, card = load_model(model_folder)
    packed = PackedSet.open(set_folder)
    if len(packed) > MAX_IMAGES:
        raise Sf2Error(
            f"--set {set_folder}: {len(packed)} images; all pairs are kept in memory up to"
            f" {MAX_IMAGES}",
            "Pack fewer identities.",
        )
    labels = packed.labels
    of_model = _pairs(embed_set(packed, model, card), labels)
    of_pixels = _pairs(embed_set(packed, None, card), labels)
    report = {
        "protocol": "all pairs",
        "set": str(set_folder),
        "images": len(packed),
        "identities": packed.manifest.num_identities,
        "genuine": int(of_model.issame.sum()),
        "impostor": int((~of_model.issame).sum()),
        "weights_sha256": card.weights_sha256,
        "results": {
            "model": _metrics(of_model, set_folder),
            "raw pixels": _metrics(of_pixels, set_folder),
        },
        "definitions": {
            "embedding": "f(x) + f(mirrored x), unit length; raw pixels: f is the pixels",
            "eer": "FAR = FRR on the ROC joined by straight lines",
            "tar_at_far": "at the lowest threshold with FAR <= target; null below one impostor",
            "accuracy": "mean of 10 folds, threshold from the other nine; folds drawn by seed 0",
        },
    }
    return Evaluation(packed, of_model, of_pixels, report)


def _pairs(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> PairScores:
    first, second = np.triu_indices(len(embeddings), 1)
    score = (embeddings @ embeddings.T)[first, second]
    return PairScores(first, second, score, labels[first] == labels[second])


def _metrics(pairs: PairScores, folder: Path) -> dict[str, Any]:
    try:
        scores = SortedScores.of(pairs.score, pairs.issame)
    except ValueError as failure:
        raise Sf2Error(
            f"--set {folder}: {failure}", "It needs two identities, and two images of one."
        ) from None
    distances = (2 - 2 * pairs.score).astype(np.float64)
    folds = tenfold_accuracy(distances, pairs.issame, folds=stratified_folds(pairs.issame))
    return {
        "eer": eer(scores).rate,
        "auc": auc(scores),
        "accuracy": folds.mean,
        "accuracy_std": folds.std,
        "tar_at_far": [asdict(tar_at_far(scores, far)) for far in FARS],
    }
