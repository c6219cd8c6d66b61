"""Loose crops of faces, aligned by their landmarks as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf2cli.data.align import align
from sf2cli.data.images import BadImageError, decode_image, resize
from sf2cli.errors import Sf2Error


@dataclass(frozen=True)
class Crops:
    """The crops, brought to the template of the five landmarks, 112 x 112, when they are read."""

    root: Path
    names: list[str]
    landmarks: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        """Image `i` aligned, then resized to uint8 [image_size, image_size, channels].

        Raises:
            Sf2Error: it cannot be read or decoded.
        """
        path = self.root / self.names[i]
        try:
            aligned = align(decode_image(path.read_bytes(), 3), self.landmarks[i])
        except OSError as failure:
            raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
        except (BadImageError, ValueError) as failure:
            raise Sf2Error(f"{path}: {failure}", "Get the crops again.") from None
        if channels == 1:
            aligned = np.asarray(Image.fromarray(aligned).convert("L"))[:, :, None]
        return resize(aligned, image_size)

    def source(self, i: int) -> str:
        """What image `i` is called in a report."""
        return self.names[i]
