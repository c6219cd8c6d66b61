"""Where a run's numbers go besides metrics.jsonl: TensorBoard and Weights & Biases."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.recipe import Recipe, WatchRecipe


class Sink(Protocol):
    """Takes numbers by name; `training.metrics.MetricsFile` is one such."""

    def log(self, step: int, values: dict[str, float]) -> None: ...


def check_watch(watch: WatchRecipe) -> None:
    """Find out before a rank is started whether what `watch` asks for is installed.

    Raises:
        Sf2Error: it is not.
    """
    for field, package in (("tensorboard", "tensorboard"), ("wandb", "wandb")):
        if getattr(watch, field) and importlib.util.find_spec(package) is None:
            raise Sf2Error(
                f"watch.{field}: the package {package} is not installed",
                "Install it with `pip install 'sf2[watch]'`, or take it out of the recipe.",
            )


@contextmanager
def tensorboard(folder: Path, start: int) -> Iterator[Sink]:
    """Event files in `folder`; what earlier ones say of steps after `start` is not shown.

    Raises:
        Sf2Error: the folder cannot be written to.
    """
    from torch.utils.tensorboard import SummaryWriter

    class Writer:
        def log(self, step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    try:
        writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
    except OSError as failure:
        raise Sf2Error(
            f"watch.tensorboard: {folder} cannot be written ({failure.strerror})",
            "Free disk space, move what is there away, or take it out of the recipe.",
        ) from None
    # Its own threads write; a run of a second would lose what they still hold.
    with writer:
        yield Writer()


@contextmanager
def wandb(project: str, folder: Path, recipe: Recipe) -> Iterator[Sink]:
    """A W&B run below `folder`, gone on with where the folder has one already.

    Its own environment variables hold: WANDB_MODE=offline writes files alone.

    Raises:
        Sf2Error: W&B refuses, as without a login.
    """
    import wandb as service

    class Logger:
        def log(self, step: int, values: dict[str, float]) -> None:
            run.log(values, step=step)

    folder.mkdir(exist_ok=True)
    name = folder / "run-id"
    known = name.read_text(encoding="utf-8").strip() if name.exists() else None
    settings = service.Settings(console="off", silent=True)
    try:
        run: Any = service.init(
            project=project,
            name=recipe.name,
            config=recipe.model_dump(mode="json", by_alias=True),
            dir=str(folder.parent),
            id=known,
            resume="allow",
            settings=settings,
        )
    except service.Error as failure:
        raise Sf2Error(
            f"watch.wandb {project}: {failure}", "Log in with `wandb login`, or WANDB_MODE=offline."
        ) from None
    replace_file(name, run.id)
    status = 1
    try:
        yield Logger()
        status = 0
    finally:
        run.finish(exit_code=status)
