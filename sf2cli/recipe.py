"""The recipe: everything about a training run that is not DeepSpeed's, in one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from sf2cli.errors import Sf2Error, did_you_mean, why
from sf2cli.head_recipe import HeadRecipe, SphereFace2Recipe
from sf2cli.section import Section, field_names


class AugmentRecipe(Section):
    """How training images are changed at random, anew in every epoch.

    How far, for all of them (`data.augment`), and how often (`data.degrade`).
    """

    shift: float = Field(0.0, ge=0, description="pixels, along each axis")
    scale: float = Field(0.0, ge=0, lt=1)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    crop: float = Field(0.0, ge=0, le=1, description="probability of losing all but a rectangle")
    low_resolution: float = Field(0.0, ge=0, le=1, description="of being scaled down and up")
    jitter: float = Field(0.0, ge=0, le=1, description="of other light, contrast, saturation")

    @property
    def limits(self) -> dict[str, float]:
        return self.model_dump(include={"shift", "scale", "brightness", "contrast"})

    @property
    def chances(self) -> dict[str, float]:
        return self.model_dump(include={"crop", "low_resolution", "jitter"})


class DataRecipe(Section):
    """What is trained on and how it is fed."""

    shards: str = Field(description="what `sf2 pack` wrote, other tars by braces, or URLs")
    image_size: int = Field(112, gt=0, le=1024, multiple_of=16)
    channels: Literal[1, 3] = 3
    flip: bool = True
    augment: AugmentRecipe = AugmentRecipe()
    workers: int = Field(0, ge=0, description="loader processes a rank; 0 decodes in the rank")
    cache: Path | None = Field(None, description="of indexes and fetched shards; ~/.cache/sf2")
    cache_gb: float = Field(20.0, gt=0, description="fetched shards to keep on a host")
    shuffle_shards: int = Field(16, gt=0, description="fetched shards that are shuffled together")
    max_bad: int = Field(0, ge=0, description="damaged images to skip, in all, before giving up")
    label_noise: float = Field(
        0.0, ge=0, lt=1, description="share of images with a label drawn anew, to study robustness"
    )


class BackboneRecipe(Section):
    """Which network; names are those of `sf2cli.backbones.registry`.

    `activation_checkpointing` keeps the input of each residual unit and computes the rest again in
    the backward pass; `compile` runs the network through torch.compile.
    """

    name: str
    embedding_size: int = Field(512, gt=0, le=16384)
    activation_checkpointing: bool = False
    compile: bool = False


class OptimizerRecipe(Section):
    """Momentum SGD for backbone and head alike, as in the official recipes.

    An optimizer in ds.json takes the backbone. `max_skipped` is how many steps in a row fp16 may
    leave out, its gradient not being finite, before the run ends.
    """

    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    max_skipped: int = Field(30, gt=0)


class ScheduleRecipe(Section):
    """Length of the run and the learning rate over it, in optimiser steps.

    Exactly one of `epochs` and `steps` is given. `step` multiplies the rate by `factor` at each
    of `milestones` (fractions of the run); `cosine` falls to zero.
    """

    kind: Literal["step", "cosine"] = "cosine"
    epochs: int | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    warmup_steps: int = Field(0, ge=0)
    milestones: list[float] = Field(default_factory=lambda: [0.5, 0.78, 0.94])
    factor: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_length(self) -> ScheduleRecipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if any(not 0 < point < 1 for point in self.milestones):
            raise ValueError("milestones are fractions of the run, between 0 and 1")
        return self


class StartRecipe(Section):
    """Start from a trained run on other identities: its backbone, and its rows by name.

    `run` is a run folder, for its latest checkpoint, or one checkpoint. `new_identities` says how
    rows begin that the run has none for: "mean", the mean embedding of their images by its
    backbone, or "random". `renamed` is a file of lines OLD, a tab, NEW: the row of OLD goes to
    NEW, and rows that meet are merged into their mean direction. `momentum` is that of carried
    rows and of the bias; the backbone's starts at zero either way.
    """

    run: Path
    new_identities: Literal["mean", "random"] = "mean"
    renamed: Path | None = None
    momentum: Literal["zero", "keep"] = "zero"


class WatchRecipe(Section):
    """Where the numbers of metrics.jsonl go as well: TensorBoard event files in the run folder, and
    the W&B project of that name."""

    tensorboard: bool = False
    wandb: str | None = Field(None, min_length=1)


class ValidationRecipe(Section):
    """Verification while training, and the best model kept in best/.

    `sets` are packed sets, for all their pairs, and InsightFace's .bin files. After every
    `every_steps` steps and the last one the model is measured on each; where the mean of `metric`
    over the sets is better than ever before, it is the best.
    """

    sets: list[Path] = Field(min_length=1)
    every_steps: int = Field(1000, gt=0)
    metric: Literal["eer", "auc", "accuracy"] = "eer"


class CheckpointRecipe(Section):
    """How often to save, and how many to keep; the last step is always saved.

    In the background a checkpoint is written from a copy in host memory, as large as each rank's
    rows of the head and their momentum, while training goes on.
    """

    every_steps: int = Field(1000, gt=0)
    keep_last: int = Field(3, gt=0)
    background: bool = True


class Recipe(Section):
    """A whole training recipe."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0, lt=2**63)
    batch_size: int = Field(128, gt=0, le=2**20, description="over all ranks, one optimiser step")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    data: DataRecipe
    backbone: BackboneRecipe
    head: HeadRecipe = SphereFace2Recipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe
    checkpoint: CheckpointRecipe = CheckpointRecipe()
    start: StartRecipe | None = None
    validation: ValidationRecipe | None = None
    watch: WatchRecipe = WatchRecipe()

    @model_validator(mode="before")
    @classmethod
    def _no_curriculum_unless_asked_for(cls, tree: Any) -> Any:
        """The rows of a run that starts from another one have found their places."""
        head = tree.get("head", {}) if isinstance(tree, dict) and tree.get("start") else None
        if not isinstance(head, dict) or head.get("loss", "sphereface2") != "sphereface2":
            return tree
        return {**tree, "head": {"curriculum": None, **head}}


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply overrides of the form `section.field=value` (value in YAML).

    Raises:
        Sf2Error: no such file, not YAML, an unknown field, or a value out of range; the message
            names the file, the field and the value found.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Sf2Error(
            f"recipe {path}: no such file", "configs/ has recipes to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"recipe {path}: cannot be read ({why(failure)})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        raise Sf2Error(f"recipe {path}: not YAML: {' '.join(str(failure).split())}") from None
    if not isinstance(tree, dict):
        raise Sf2Error(
            f"recipe {path}: expected a mapping of sections, found {type(tree).__name__}"
        )
    for override in overrides:
        _apply(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as failure:
        raise Sf2Error(_explain(path, failure)) from None


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out; `load_recipe` reads it back equal."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False)


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    *sections, field = path.split(".")
    if not equals or not all((*sections, field)):
        raise Sf2Error(f"--set {override}: expected section.field=value, as in optimizer.lr=0.05")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise Sf2Error(f"--set {override}: {section} is not a section of the recipe")
    try:
        tree[field] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Sf2Error(f"--set {override}: the value is not YAML") from None


def _explain(path: Path, failure: ValidationError) -> str:
    lines = []
    for problem in failure.errors():
        place, loss = list(problem["loc"]), "sphereface2"
        if place[0] == "head" and place[1:]:
            # Pydantic names it between the section and the field.
            loss = str(place.pop(1))
        where = ".".join(str(part) for part in place) or "recipe"
        if problem["type"] == "extra_forbidden":
            meant = did_you_mean(where, field_names(Recipe, loss))
            lines.append(f"unknown field {where} (found {problem['input']!r}){meant}")
        elif problem["type"] == "missing":
            lines.append(f"{where} is missing")
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            tag, expected = context["tag"], context["expected_tags"]
            meant = did_you_mean(tag, expected.replace("'", "").split(", "))
            lines.append(f"head.loss is {tag!r}, expected {expected}{meant}")
        else:
            found = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}{found}")
    return f"recipe {path}: " + "; ".join(lines)
