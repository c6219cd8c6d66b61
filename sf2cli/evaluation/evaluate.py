"""A model and the raw-pixel baseline, side by side on sets of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sf2cli import console
from sf2cli.backbones.saved import ModelCard, load_model
from sf2cli.evaluation.embed import embed
from sf2cli.evaluation.measure import Verification, draw_folds, limits, measure
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.evaluation.scoring import Rows, Scores, all_cosines, listed_cosines
from sf2cli.evaluation.verification import SortedScores

MODEL = "model"
PIXELS = "raw pixels"

# From here on sorting and counting take seconds.
_MANY_PAIRS = 2_000_000


@dataclass(frozen=True)
class Scored:
    """The cosine of each pair of a set [pairs], the same sorted by kind, and the metrics."""

    scores: Scores
    split: SortedScores
    found: Verification


@dataclass(frozen=True)
class Result:
    """One set of pairs, `scored` by MODEL and by PIXELS; `notes` say what it cannot support."""

    pairs: PairSet
    scored: dict[str, Scored]
    notes: list[str]


@dataclass(frozen=True)
class Evaluation:
    """What a report is made of."""

    model: Path
    card: ModelCard
    device: str
    results: list[Result]


def evaluate(model_folder: Path, pair_sets: Sequence[PairSet]) -> Evaluation:
    """Embed the images of every set, score its pairs, and measure.

    Args:
        model_folder: a model or run folder; its model runs on a GPU where there is one.
        pair_sets: in the order of the report.

    Raises:
        Sf2Error: an unreadable model or image, or embeddings that are not finite.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, card = load_model(model_folder, device)
    results = [_evaluate(pairs, model, card) for pairs in pair_sets]
    return Evaluation(model_folder, card, device, results)


def _evaluate(pairs: PairSet, model: nn.Module, card: ModelCard) -> Result:
    embedded = embed(pairs.faces, model, card, f"{pairs.name}: embed")
    if len(pairs) > _MANY_PAIRS:
        console.info(f"{pairs.name}: measuring {len(pairs):,} pairs")
    folds = draw_folds(pairs)
    scored = {}
    for name, rows in ((MODEL, embedded.model), (PIXELS, embedded.pixels)):
        scores = _cosines(pairs, rows, name)
        split = SortedScores.of(scores, pairs.issame)
        scored[name] = Scored(scores, split, measure(pairs, scores, split, folds))
    notes = limits(pairs, scored[MODEL].found, folds)
    if pairs.data_sha256 == card.training.get("manifest_sha256"):
        notes.insert(0, "The model was trained on this very set: this says nothing of new people.")
    return Result(pairs, scored, notes)


def _cosines(pairs: PairSet, rows: Rows, name: str) -> Scores:
    if pairs.all_pairs:
        return all_cosines(rows, f"{pairs.name}: compare, {name}")
    return listed_cosines(rows, pairs.first, pairs.second)
