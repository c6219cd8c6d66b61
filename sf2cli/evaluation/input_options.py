"""What the user says of a model's input, where its file does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sf2cli.backbones.saved import Preprocessing


@dataclass(frozen=True)
class InputOptions:
    """None leaves it to the file, or to what is usual.

    Args:
        image_size: side of the input in pixels.
        mean, scale: a pixel p enters as (p - mean) / scale.
        colour: order of the colours.
        mirrored: whether the mirrored image's features are added.
        keys: for features: the file that names the image of each row.
    """

    image_size: int | None = None
    mean: float | None = None
    scale: float | None = None
    colour: Literal["RGB", "BGR", "L"] | None = None
    mirrored: bool | None = None
    keys: Path | None = None

    def preprocessing(self, usual: Preprocessing) -> Preprocessing:
        """`usual` with what was said in place of it."""
        said = {"mean": self.mean, "scale": self.scale, "colour": self.colour}
        return usual.model_copy(update={k: v for k, v in said.items() if v is not None})
