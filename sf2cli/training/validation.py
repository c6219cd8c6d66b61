"""Validation while a run trains: verification on held-out sets, and the best model kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import CARD_NAME, Preprocessing, load_model, normalise
from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.all_pairs import MAX_IMAGES, open_all_pairs
from sf2cli.evaluation.bins import open_bin
from sf2cli.evaluation.embed import unit_embeddings
from sf2cli.evaluation.many_pairs import ManyPairs
from sf2cli.evaluation.measure import draw_folds, measure, percent
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.evaluation.scoring import Scores, all_cosines, listed_cosines
from sf2cli.evaluation.tenfold import FOLDS
from sf2cli.evaluation.verification import SortedScores
from sf2cli.files import file_sha256
from sf2cli.heads.partition import Partition
from sf2cli.heads.ranks import Ranks
from sf2cli.recipe import ValidationRecipe
from sf2cli.training.backbone_state import gather_weights
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.model_folder import write_model
from sf2cli.training.restore import Settings

_IMAGES = 64


def open_sets(settings: ValidationRecipe) -> list[PairSet]:
    """The sets to validate on: packed ones for all their pairs, and InsightFace's .bin files.

    Raises:
        Sf2Error: one cannot be read, two have one name, or one is too small for the metric.
    """
    sets = []
    for path in settings.sets:
        found = open_bin(path) if path.suffix == ".bin" else open_all_pairs(path)
        if isinstance(found, ManyPairs):
            raise Sf2Error(
                f"validation.sets: {path} has {len(found.faces)} images, expected at most"
                f" {MAX_IMAGES}, whose pairs are compared while a run trains",
                "Validate on a part of it, and measure the whole with sf2 eval.",
            )
        sets.append(found)
    for number, pairs in enumerate(sets):
        if pairs.name in (other.name for other in sets[:number]):
            raise Sf2Error(
                f"validation.sets: two are called {pairs.name}", "Give one of them another name."
            )
        if settings.metric == "accuracy" and len(pairs) < FOLDS:
            raise Sf2Error(
                f"validation.metric accuracy takes {FOLDS} pairs; {pairs.name} has {len(pairs)}",
                "Take metric eer or auc.",
            )
    return sets


def trained_on(settings: ValidationRecipe, manifest_sha256: str) -> list[Path]:
    """Those of the packed sets whose manifest is that of the training set."""
    manifests = [path / MANIFEST_NAME for path in settings.sets]
    return [
        manifest.parent
        for manifest in manifests
        if manifest.exists() and file_sha256(manifest) == manifest_sha256
    ]


class Validator:
    """Measures the model that a run would end with now.

    Args:
        run: the run's settings.
        settings: the recipe's validation section.
        sets: of `open_sets`.
        ranks: the run's; each embeds a share of the images.
        best: the folder that the best model is kept in.
    """

    def __init__(
        self,
        run: Settings,
        settings: ValidationRecipe,
        sets: Sequence[PairSet],
        ranks: Ranks,
        best: Path,
        device: torch.device,
    ) -> None:
        self._run = run
        self._recipe = run.recipe
        self._settings = settings
        self._sets = sets
        self._ranks = ranks
        self._best = best
        self._device = device
        self._value: float | None = None
        if ranks.rank == 0 and (best / CARD_NAME).exists():
            self._value = self._kept_value(load_model(best)[1].training["best"])

    def _kept_value(self, kept: dict[str, Any]) -> float | None:
        """The value of the best model so far, where it was measured as it is now."""
        if (kept["metric"], kept.get("sets")) == (self._settings.metric, self._hashes):
            value: float = kept["value"]
            return value
        measured = " and ".join(kept.get("sets", {})) or "other sets"
        console.warn(
            f"{self._best} is the best by {kept['metric']} on {measured}, which is not what"
            " validation measures now: the next model measured takes its place"
        )
        return None

    @property
    def _hashes(self) -> dict[str, str]:
        return {pairs.name: pairs.data_sha256 for pairs in self._sets}

    def is_due(self, step: int, total: int) -> bool:
        """Whether this step is one to validate after: every so many, and the last."""
        return step % self._settings.every_steps == 0 or step == total

    def run(self, engine: TrainingEngine, step: int) -> dict[str, float]:
        """Every metric of every set as `validation/SET/METRIC`, and the chosen metric's mean over
        the sets as `validation/METRIC`; on the first rank, elsewhere nothing. Collective.

        The model is written to the best folder if that mean is better than ever before.

        Raises:
            Sf2Error: an image cannot be read or an embedding is not finite; raised on every rank.
        """
        weights = gather_weights(engine.deepspeed)
        backbone = build_backbone(
            self._recipe.backbone.name,
            embedding_size=self._recipe.backbone.embedding_size,
            image_size=self._recipe.data.image_size,
            channels=self._recipe.data.channels,
        )
        backbone.load_state_dict(weights)
        backbone.to(self._device).eval()
        rows = [self._embed(pairs, backbone) for pairs in self._sets]
        values: dict[str, float] = {}
        problem = None
        try:
            if self._ranks.rank == 0:
                values, mean = self._measured(rows)
                self._keep_best(engine, weights, step, mean)
        except Sf2Error as failure:
            problem = failure
        self._ranks.raise_together(problem)
        return values

    def _measured(self, rows: Sequence[NDArray[np.float32]]) -> tuple[dict[str, float], float]:
        """All numbers by name, and the mean of the chosen one."""
        metric, values = self._settings.metric, dict[str, float]()
        for pairs, embeddings in zip(self._sets, rows, strict=True):
            for name, value in _metrics(pairs, embeddings):
                values[f"validation/{pairs.name}/{name}"] = value
        mean = float(np.mean([values[f"validation/{pairs.name}/{metric}"] for pairs in self._sets]))
        values[f"validation/{metric}"] = mean
        return values, mean

    def _embed(self, pairs: PairSet, backbone: torch.nn.Module) -> NDArray[np.float32]:
        """Unit embeddings [images, d] of every image of a set; each rank does its share."""
        faces, recipe = pairs.faces, self._recipe
        share = Partition(len(faces), self._ranks.size)
        mine = range(share.start(self._ranks.rank), share.stop(self._ranks.rank))
        rows = [np.empty((0, recipe.backbone.embedding_size), np.float32)]
        problem = None
        try:
            for part in _parts(mine):
                size, channels = recipe.data.image_size, recipe.data.channels
                pixels = np.stack([faces.decode(i, size, channels) for i in part])
                images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
                with torch.inference_mode():
                    made = Preprocessing.for_channels(channels)
                    ready = normalise(images.to(self._device), made)
                    found = unit_embeddings(backbone, ready, recipe.data.flip)
                    rows.append(found.cpu().numpy())
        except Sf2Error as failure:
            problem = failure
        self._ranks.raise_together(problem)
        every: list[NDArray[np.float32]] = self._ranks.collect(np.concatenate(rows))  # type: ignore[assignment]
        whole = np.concatenate(every)
        if not np.isfinite(whole).all():
            raise Sf2Error(
                f"validation: embeddings of {pairs.name} are not finite",
                "Lower optimizer.lr or head.loss_weight, or lengthen the warm-up.",
            )
        return whole

    def _keep_best(
        self, engine: TrainingEngine, weights: dict[str, torch.Tensor], step: int, mean: float
    ) -> None:
        metric = self._settings.metric
        if self._value is not None:
            better = mean < self._value if metric == "eer" else mean > self._value
            if not better:
                return
        self._value = mean
        best = {"step": step, "metric": metric, "value": mean, "sets": self._hashes}
        write_model(self._best, weights, self._run, engine.head, {"best": best})
        console.info(f"step {step}: best model so far, {metric} {mean:.4f}")


def _parts(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), _IMAGES):
        yield numbers[start : start + _IMAGES]


def _metrics(pairs: PairSet, rows: NDArray[np.float32]) -> Iterator[tuple[str, float]]:
    scores: Scores
    if pairs.all_pairs:
        scores = all_cosines(rows, f"{pairs.name}: compare")
    else:
        scores = listed_cosines(rows, pairs.first, pairs.second)
    split = SortedScores.of(scores, pairs.issame)
    found = measure(pairs, scores, split, draw_folds(pairs))
    yield "eer", found.eer
    yield "auc", found.auc
    if found.accuracy is not None:
        yield "accuracy", found.accuracy
    for target in found.tar_at_far:
        if target.tar is not None:
            yield f"TAR at FAR {percent(target.far)}", target.tar
