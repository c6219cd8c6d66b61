"""What can be evaluated: whatever turns faces into rows of numbers, by one protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sf2cli.backbones.saved import Preprocessing
from sf2cli.evaluation.pair_set import Faces

# Part of every fingerprint: raise it when the same card comes to mean other numbers.
_MEANING = 2


@dataclass(frozen=True)
class EmbedderCard:
    """What an embedder is and how its input is made.

    Args:
        place: the file or folder it came from.
        kind: what that was taken for, as `sf2 model`.
        network: the backbone's name, or what is known of the network.
        embedding_size: length of an embedding; 0 if only the first result will tell.
        image_size: side of its square input in pixels.
        preprocessing: from 8-bit pixels to its input.
        mirrored: whether an embedding is f(x) + f(x mirrored left to right) or f(x) alone.
        sha256: of the weights, or of the features.
        head: of a model trained by sf2: loss, hyper-parameters and bias.
        training: of such a model: where it came from.
    """

    place: Path
    kind: str
    network: str
    embedding_size: int
    image_size: int
    preprocessing: Preprocessing
    mirrored: bool
    sha256: str
    head: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Colours of the images as they are decoded: 3 for RGB or BGR, 1 for grey."""
        return self.preprocessing.channels

    @property
    def fingerprint(self) -> str:
        """A hash of all that the embedding of a given image depends on, but for the device."""
        said = {
            "meaning": _MEANING,
            "kind": self.kind,
            "network": self.network,
            "image_size": self.image_size,
            "preprocessing": self.preprocessing.model_dump(),
            "mirrored": self.mirrored,
            "sha256": self.sha256,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def definition(self) -> str:
        """What an embedding is, in a report's words."""
        if self.kind == "features":
            return f"A row of {self.place}, {self.network}, scaled to unit length."
        made = self.preprocessing
        colour = "grey" if made.colour == "L" else made.colour
        rule = "f(x) + f(x mirrored left to right)" if self.mirrored else "f(x)"
        return (
            f"{rule}, scaled to unit length. f is {self.network} ({self.kind}); x is the image"
            f" resized to {self.image_size} x {self.image_size} {colour} without cropping, each"
            f" pixel p as (p - {made.mean:g}) / {made.scale:g}."
        )


class Embedder(Protocol):
    """Turns images into embeddings."""

    @property
    def card(self) -> EmbedderCard: ...

    @property
    def device(self) -> str:
        """Where it runs, as `cpu`."""
        ...

    def embed(self, faces: Faces, description: str) -> NDArray[np.float32]:
        """The embedding of every image, as `card` has it but not scaled to unit length: float32
        [len(faces), d], finite and none of them zeros alone.

        Args:
            faces: the images, each read once.
            description: of the progress display.

        Raises:
            Sf2Error: images that cannot be read (the first is named, all are counted), or an
                embedding that is not finite or all zeros.
        """
        ...


Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From uint8 [B, C, H, W], RGB or grey, to raw features [B, d]."""
