"""A run's folder: recipe.yaml, ds.json, metrics.jsonl, checkpoints/, best/, model/ and a page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.recipe import Recipe, dump_recipe
from sf2cli.training.lock import locked
from sf2cli.training.metrics import MetricsFile

# What a run has before its first checkpoint.
_OF_A_START = ("recipe.yaml", "ds.json", "metrics.jsonl", "tensorboard", "wandb")
_ASIDE = "ended-"


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

    @property
    def has_results(self) -> bool:
        """Whether there is more than settings and a log: a checkpoint, a model, a page."""
        made = self.checkpoints.is_dir() and any(
            not path.name.startswith(".") for path in self.checkpoints.iterdir()
        )
        return made or any(path.exists() for path in (self.best, self.model, self.page))

    def require_no_results(self) -> None:
        """Refuse a folder in which a new run would do away with what an earlier one made.

        Asked before anything is started, and again by who holds the folder: a run that was at work
        at first may have ended since.

        Raises:
            Sf2Error: a run has `has_results`, or the folder cannot be read.
        """
        try:
            has_results = self.metrics.exists() and self.has_results
        except OSError as failure:
            raise self._unread(failure) from None
        if has_results:
            raise Sf2Error(
                f"{self.path} holds a run already",
                "Go on with --resume, choose another folder with --out, or remove it.",
            )

    @property
    def strange(self) -> list[str]:
        """Names in the folder that are not of a run that ended before its first checkpoint.

        Raises:
            Sf2Error: it cannot be read.
        """
        try:
            kept = {*_OF_A_START, *([] if self.has_results else [self.checkpoints.name])}
            names = sorted(os.listdir(self.path))
        except OSError as failure:
            raise self._unread(failure) from None
        return [n for n in names if n not in kept and not n.startswith((".", _ASIDE))]

    def set_aside(self, *, resume: bool) -> Path | None:
        """Move what a run left that ended before its first checkpoint; where to, if it had steps.

        Args:
            resume: whether it is asked to go on, and so may have made more than that.

        Raises:
            Sf2Error: there is more, or the folder cannot be written to.
        """
        if not resume:
            self.require_no_results()
        if not self.metrics.exists() or self.metrics.stat().st_size == 0:
            return None
        number = next(n for n in count(1) if not (self.path / f"{_ASIDE}{n}").exists())
        aside = self.path / f"{_ASIDE}{number}"
        try:
            aside.mkdir()
            for name in _OF_A_START:
                if (self.path / name).exists():
                    (self.path / name).rename(aside / name)
        except OSError as failure:
            raise self._refused(failure) from None
        return aside

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, made where it is not there, for the length of the block.

        A new one in which no run began is not left behind.

        Raises:
            Sf2Error: another run holds it, or it cannot be made.
        """
        new = not self.path.exists()
        try:
            with ExitStack() as stack:
                try:
                    self.path.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(self.path))
                except OSError as failure:
                    raise self._refused(failure) from None
                yield
        except BaseException:
            if new and not self.metrics.exists():
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def begin(self, recipe: Recipe, ds_config: dict[str, Any], step: int) -> MetricsFile:
        """Write a run's settings and open its metrics.

        Args:
            step: where the run goes on from; what metrics.jsonl says of later steps is dropped.

        Raises:
            Sf2Error: the folder cannot be written to.
        """
        try:
            replace_file(self.recipe, dump_recipe(recipe))
            replace_file(self.path / "ds.json", json.dumps(ds_config, indent=2) + "\n")
            return MetricsFile.cut_after(self.metrics, step)
        except OSError as failure:
            raise self._refused(failure) from None

    def _unread(self, failure: OSError) -> Sf2Error:
        return Sf2Error(
            f"run folder {self.path}: cannot be read ({failure.strerror})",
            "Choose another with --out.",
        )

    def _refused(self, failure: OSError) -> Sf2Error:
        return Sf2Error(
            f"{self.path}: cannot be written ({failure.strerror})",
            "Free disk space, or choose another folder with --out.",
        )
