"""Random changes of training images: moved, zoomed, lit and contrasted anew in every epoch.

What happens to a sample is a function of seed, epoch and sample number alone, so that neither
ranks nor workers nor a resume change it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_AUGMENT = 2


@dataclass(frozen=True)
class Augment:
    """How far images may be changed; each amount is drawn evenly from [-value, value].

    Args:
        shift: pixels, along each axis.
        scale: share of the edge by which the view grows or shrinks, below 1.
        brightness: share by which all pixels are multiplied up or down.
        contrast: share by which the distance of pixels from their mean is.
    """

    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __bool__(self) -> bool:
        return any((self.shift, self.scale, self.brightness, self.contrast))


def augment(
    pixels: NDArray[np.uint8], limits: Augment, seed: int, epoch: int, sample: int
) -> NDArray[np.uint8]:
    """A changed copy of uint8 [S, S, C]. What comes in from beyond the edges repeats the edge."""
    bits = np.random.PCG64([seed, epoch, _AUGMENT, sample]).random_raw(5)
    amounts = (bits >> np.uint64(11)).astype(np.float64) / 2**52 - 1
    view = _view(pixels, limits, amounts[:3]).astype(np.float32)
    mean = view.mean()
    view = mean + (view - mean) * (1 + limits.contrast * amounts[3])
    view *= 1 + limits.brightness * amounts[4]
    changed: NDArray[np.uint8] = np.rint(view).clip(0, 255).astype(np.uint8)
    return changed


def _view(
    pixels: NDArray[np.uint8], limits: Augment, amounts: NDArray[np.float64]
) -> NDArray[np.uint8]:
    if not (limits.shift or limits.scale):
        return pixels
    size = pixels.shape[0]
    edge = size * (1 + limits.scale * amounts[0])
    left, top = (size - edge) / 2 + limits.shift * amounts[1:3]
    margin = int(np.ceil(limits.shift + limits.scale * size / 2)) + 1
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    image = Image.fromarray(padded if pixels.shape[2] == 3 else padded[:, :, 0])
    box = (left + margin, top + margin, left + margin + edge, top + margin + edge)
    view = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return view.reshape(pixels.shape)
