"""Images in files of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError, decode_image, resize
from sf2cli.errors import Sf2Error


@dataclass(frozen=True)
class FileFaces:
    """`files` are paths relative to `root`, and what the images are called."""

    root: Path
    files: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        """See `Faces.decode`."""
        try:
            return resize(decode_image(self.read(i), channels), image_size)
        except BadImageError as failure:
            raise Sf2Error(
                f"{self.root / self.files[i]}: {failure}",
                "Replace the image or take it off the list.",
            ) from None

    def source(self, i: int) -> str:
        """See `Faces.source`."""
        return self.files[i]

    def read(self, i: int) -> bytes:
        """See `EncodedFaces.read`."""
        path = self.root / self.files[i]
        try:
            return path.read_bytes()
        except OSError as failure:
            raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
