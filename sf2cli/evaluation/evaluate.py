"""A model and the raw-pixel baseline, side by side on sets of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sf2cli import console
from sf2cli.evaluation.cache import Cache, embed_once
from sf2cli.evaluation.conventions import Convention
from sf2cli.evaluation.embed import pixels
from sf2cli.evaluation.embedder import Embedder, EmbedderCard
from sf2cli.evaluation.finding import Finding, Task
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
    """What a report is made of. `report.panels` knows each type of result."""

    card: EmbedderCard
    device: str
    results: list[Result]
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def evaluate(
    embedder: Embedder,
    protocols: Sequence[PairSet | Task],
    cache: Cache | None = None,
    convention: Convention = "sf2",
) -> Evaluation:
    """Embed the images of every protocol, and measure.

    Args:
        embedder: what is evaluated.
        protocols: in the order of the report; sets of pairs come first.
        cache: where embeddings are kept and found again; None keeps none.
        convention: whose TAR at FAR pairs get; other protocols know theirs.

    Raises:
        Sf2Error: an unreadable image, or embeddings that are not finite.
    """
    results: list[Result] = []
    findings: list[Finding] = []
    for protocol in protocols:
        if isinstance(protocol, PairSet):
            results.append(_evaluate(protocol, embedder, cache, convention))
        else:
            findings += protocol.measure(_task_rows(protocol, embedder, cache))
    return Evaluation(embedder.card, embedder.device, results, findings)


def _task_rows(task: Task, embedder: Embedder, cache: Cache | None) -> dict[str, Rows]:
    name, faces = task.origin.name, task.faces
    rows: dict[str, Rows] = {
        MODEL: embed_once(embedder, faces, task.origin.data_sha256, f"{name}: embed", cache)
    }
    if task.baseline:
        rows[PIXELS] = pixels(faces, embedder.card, f"{name}: read pixels")
    return rows


def _evaluate(
    pairs: PairSet, embedder: Embedder, cache: Cache | None, convention: Convention
) -> Result:
    name = pairs.name
    rows: dict[str, Rows] = {
        MODEL: embed_once(embedder, pairs.faces, pairs.data_sha256, f"{name}: embed", cache),
        PIXELS: pixels(pairs.faces, embedder.card, f"{name}: read pixels"),
    }
    if len(pairs) > _MANY_PAIRS:
        console.info(f"{name}: measuring {len(pairs):,} pairs")
    folds = draw_folds(pairs)
    scored = {}
    for contender in rows:
        scores = _cosines(pairs, rows[contender], contender)
        split = SortedScores.of(scores, pairs.issame)
        scored[contender] = Scored(scores, split, measure(pairs, scores, split, folds, convention))
    notes = limits(pairs, scored[MODEL].found, folds)
    if pairs.data_sha256 == embedder.card.training.get("manifest_sha256"):
        notes.insert(0, "The model was trained on this very set: this says nothing of new people.")
    return Result(pairs, scored, notes)


def _cosines(pairs: PairSet, rows: Rows, name: str) -> Scores:
    if pairs.all_pairs:
        return all_cosines(rows, f"{pairs.name}: compare, {name}")
    return listed_cosines(rows, pairs.first, pairs.second)
