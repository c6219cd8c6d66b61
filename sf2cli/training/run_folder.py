"""A run's folder: recipe.yaml, ds.json, metrics.jsonl, checkpoints/, best/, model/ and a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.recipe import Recipe, dump_recipe
from sf2cli.training.lock import locked
from sf2cli.training.metrics import MetricsFile


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it writes."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def page(self) -> Path:
        return self.path / "training.html"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @contextmanager
    def opened(self, recipe: Recipe, ds_config: dict[str, Any], step: int) -> Iterator[MetricsFile]:
        """Hold the folder for the length of the block, its settings written; the first rank's.

        Args:
            step: where the run goes on from; what metrics.jsonl says of later steps is dropped.

        Raises:
            Sf2Error: another run holds the folder, or it cannot be written: no new one is left.
        """
        new = not self.path.exists()
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path))
                replace_file(self.recipe, dump_recipe(recipe))
                replace_file(self.path / "ds.json", json.dumps(ds_config, indent=2) + "\n")
                metrics = MetricsFile.cut_after(self.metrics, step)
            except OSError as failure:
                if new:
                    shutil.rmtree(self.path, ignore_errors=True)
                raise Sf2Error(
                    f"{self.path}: cannot be written ({failure.strerror})",
                    "Free disk space, or choose another folder with --out.",
                ) from None
            yield metrics
