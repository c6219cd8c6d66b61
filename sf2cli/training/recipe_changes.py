"""What a recipe may change when a run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe, load_recipe

# Nothing of the run depends on these; the set that shards names is told by its manifest's hash.
_FREE = (
    *("name", "checkpoint", "optimizer.max_skipped"),
    *("data.shards", "data.workers", "data.max_bad", "data.cache", "data.cache_gb"),
)
# These make another run of it from here on, as is often the point.
_TRAINING = ("schedule", "optimizer.lr", "optimizer.weight_decay", "head.loss_weight")
# Nothing of the training depends on these, but something is no longer done, or is from here on.
_AROUND = ("validation", "watch")
_START = ("start",)
_NAMED = (*_TRAINING, *_AROUND, *_START)


def recipe_changes(path: Path, recipe: Recipe, *, begun: bool) -> dict[str, str]:
    """The changes against a run's recipe.yaml that are to be told, as `field 1 -> 2`, by field.

    Args:
        path: the run's recipe.yaml.
        recipe: what it is to go on with.
        begun: whether it goes on from a checkpoint, for then it has started already.

    Raises:
        Sf2Error: what was trained so far does not fit `recipe`, or `path` is no recipe.
    """
    before, now = (dict(_fields(each.model_dump(mode="json", by_alias=True)))
                   for each in (load_recipe(path), recipe))  # fmt: skip
    felt = [name for name in dict.fromkeys((*now, *before)) if not _within(name, _FREE)]
    changed = [name for name in felt if now.get(name) != before.get(name)]
    refused = [name for name in changed if not _within(name, _NAMED)]
    if refused:
        what = "; ".join(
            f"{name} is {now.get(name)}, the run has {before.get(name)}" for name in refused
        )
        raise Sf2Error(
            f"--resume: {what}",
            f"Put back what {path} says, or start a new run with --out.",
        )
    idle = " (of no effect: the run has begun)" if begun else ""
    return {
        name: f"{name} {before.get(name)} -> {now.get(name)}{idle if _within(name, _START) else ''}"
        for name in changed
    }


def _fields(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _within(name: str, sections: tuple[str, ...]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)
