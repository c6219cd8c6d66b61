"""What a set of characters is made of: fonts, characters, the split, the nuisances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sf2cli.errors import Sf2Error

Range = tuple[float, float]
Part = Literal["all", "train", "val", "test"]


class GlyphSettings(BaseModel):
    """The settings of `sf2 pack fonts`, all of which have a default.

    Args:
        faces: a folder of fonts, or a list of faces (.tsv); None takes the installed fonts.
        root: the folder that a list's files are relative to.
        unseen_share: the share of the faces of a folder that no training image is drawn from;
            a list says so for each face.
        characters: names of alphabets and ranges, joined by commas: `latin,U+4E00-9FFF`.
        min_seen, min_unseen: a character is left out unless so many faces of each role draw it.
        part: all characters, or one part of a split by `split_seed`: `test` and `val` of them
            are held out, `train` is the others, or the first `train` of those.
        seen_images, unseen_images: pictures of a character from faces of each role; where it has
            fewer faces, a face is drawn again with other nuisances.
        seed: draws the faces and the nuisances.
        size: edge in pixels.
        rotation: degrees, to either side.
        stretch: factors of width and height, drawn apart.
        shear: to either side.
        shift: a share of the edge, to either side, across and down.
        contrast: grey levels between ground and ink, as a share of all.
        noise: standard deviation, as a share of all grey levels.
        bar: the most that a vertical bar covers, as a share of the edge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    faces: Path | None = None
    root: Path = Path("/usr/share/fonts")
    unseen_share: float = Field(0.2, ge=0, lt=1)
    characters: str = "latin"
    min_seen: int = Field(1, ge=0)
    min_unseen: int = Field(0, ge=0)
    part: Part = "all"
    split_seed: int = Field(0, ge=0)
    train: int | None = Field(None, ge=1)
    val: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    seen_images: int = Field(20, ge=0)
    unseen_images: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    size: int = Field(32, ge=8, le=512)
    rotation: float = Field(10.0, ge=0, le=180)
    stretch: Range = (0.85, 1.1)
    shear: float = Field(0.1, ge=0, le=1)
    shift: float = Field(0.05, ge=0, le=0.5)
    contrast: Range = (0.6, 1.0)
    noise: Range = (0.03, 0.2)
    bar: float = Field(0.1, ge=0, le=0.5)

    @model_validator(mode="after")
    def _sensible(self) -> GlyphSettings:
        for name, most in (("stretch", 4.0), ("contrast", 1.0), ("noise", 1.0)):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= most or (name == "stretch" and low < 0.25):
                raise ValueError(f"{name}: expected [low, high] up to {most}")
        if self.seen_images + self.unseen_images == 0:
            raise ValueError("seen_images and unseen_images are both 0")
        for role in ("seen", "unseen"):
            if getattr(self, f"{role}_images") and not getattr(self, f"min_{role}"):
                raise ValueError(f"min_{role} is 0: a character may have none for {role}_images")
        return self


def load_settings(path: Path | None, overrides: Sequence[str] = ()) -> GlyphSettings:
    """Read settings (YAML) and apply overrides of the form `field=value`.

    `faces` is relative to the file.

    Raises:
        Sf2Error: no such file, not YAML, an unknown field, or a value out of range.
    """
    where = f"SOURCE {path}" if path else "SOURCE fonts"
    tree: Any = {}
    if path:
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as failure:
            raise Sf2Error(f"{where}: cannot be read ({failure.strerror})") from None
        except (yaml.YAMLError, ValueError, RecursionError) as failure:
            raise Sf2Error(f"{where}: not YAML: {' '.join(str(failure).split())}") from None
        if not isinstance(tree, dict):
            raise Sf2Error(f"{where}: expected fields, found {type(tree).__name__}")
        if isinstance(tree.get("faces"), str):
            tree["faces"] = path.parent / tree["faces"]
    for override in overrides:
        field, equals, text = override.partition("=")
        if not equals:
            raise Sf2Error(f"--set {override}: expected field=value, as in seen_images=12")
        try:
            tree[field] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise Sf2Error(f"--set {override}: the value is not YAML") from None
    try:
        return GlyphSettings.model_validate(tree)
    except ValidationError as failure:
        raise Sf2Error(
            f"{where}: {_first(failure)}", f"Fields: {', '.join(GlyphSettings.model_fields)}."
        ) from None


def _first(failure: ValidationError) -> str:
    problem = failure.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field {field}"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {text}, found {problem['input']!r}" if field else text
