"""Landmarks by MTCNN, where facenet-pytorch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error

# The detector misses faces that fill the image; its boxes need room around them.
_MARGIN = 30


class Detector:
    """Finds the largest face of an image.

    Raises:
        Sf2Error: facenet-pytorch is not installed, or does not fit this torch.
    """

    def __init__(self) -> None:
        try:
            from facenet_pytorch import MTCNN
        # torchvision for another torch fails in its own way.
        except (ImportError, RuntimeError):
            raise Sf2Error(
                "--align mtcnn: facenet-pytorch, which finds the faces, cannot be imported",
                "pip install torchvision, then --no-deps facenet-pytorch==2.6.0; or name a file of"
                " landmarks.",
            ) from None
        self._mtcnn: Any = MTCNN(select_largest=True, keep_all=True, device="cpu")

    def landmarks(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Five points float64 [5, 2] (x, y) of the largest face in uint8 [H, W, 3], if any."""
        edges = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
        _, _, points = self._mtcnn.detect(np.pad(image, edges), landmarks=True)
        if points is None:
            return None
        return np.asarray(points[0], np.float64) - _MARGIN
