"""Training images made worse at random: parts lost, low resolution, other light and colours.

The three changes of AdaFace (CVPR 2022, section 4.1), each with a probability of its own (theirs
is 0.2), over its ranges. What happens to a sample is a function of seed, epoch and sample number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_DEGRADE = 3
# The share of the area that a crop leaves, and its width over its height.
_AREA, _RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
# The edge of a low resolution over the full one.
_EDGE = (0.2, 1.0)
# What light, contrast and saturation are multiplied by.
_FACTOR = (0.5, 1.5)
_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Degrade:
    """How often each change is made: probabilities, 0 to 1.

    Args:
        crop: all but a rectangle goes black; it stays in its place.
        low_resolution: scaled down and up again, each by a filter drawn at random.
        jitter: brightness, contrast and, of colours, saturation change.
    """

    crop: float = 0.0
    low_resolution: float = 0.0
    jitter: float = 0.0

    def __bool__(self) -> bool:
        return any((self.crop, self.low_resolution, self.jitter))


def degrade(
    pixels: NDArray[np.uint8], chances: Degrade, seed: int, epoch: int, sample: int
) -> None:
    """Change uint8 [S, S, C] in place."""
    bits = np.random.PCG64([seed, epoch, _DEGRADE, sample]).random_raw(14)
    drawn = ((bits >> np.uint64(11)).astype(np.float64) / 2**53).tolist()
    # Every change has its own draws, so that none depends on whether the others are on.
    if drawn[0] < chances.crop:
        _crop(pixels, *drawn[3:7])
    if drawn[1] < chances.low_resolution:
        _low_resolution(pixels, *drawn[7:10])
    if drawn[2] < chances.jitter:
        _jitter(pixels, *drawn[10:13])


def _crop(pixels: NDArray[np.uint8], area: float, shape: float, row: float, column: float) -> None:
    size = pixels.shape[0]
    edge = size * math.sqrt(_between(_AREA, area))
    stretch = math.exp(_between((math.log(_RATIO[0]), math.log(_RATIO[1])), shape) / 2)
    height = min(size, round(edge / stretch))
    width = min(size, round(edge * stretch))
    top, left = int(row * (size - height + 1)), int(column * (size - width + 1))
    pixels[:top] = 0
    pixels[top + height :] = 0
    pixels[:, :left] = 0
    pixels[:, left + width :] = 0


def _low_resolution(pixels: NDArray[np.uint8], edge: float, down: float, up: float) -> None:
    size, _, channels = pixels.shape
    small = max(1, int(size * _between(_EDGE, edge)))
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    for to, drawn in ((small, down), (size, up)):
        image = image.resize((to, to), _FILTERS[int(drawn * len(_FILTERS))])
    pixels[:] = np.asarray(image).reshape(pixels.shape)


def _jitter(pixels: NDArray[np.uint8], light: float, contrast: float, saturation: float) -> None:
    """Rounded and clipped to uint8 after contrast and after saturation."""
    lit, steep = _between(_FACTOR, light), _between(_FACTOR, contrast)
    middle = lit * _grey(pixels).mean()
    table = middle + steep * (lit * np.arange(256) - middle)
    pixels[:] = np.rint(table).clip(0, 255).astype(np.uint8)[pixels]
    if pixels.shape[2] == 3:
        share = round(256 * _between(_FACTOR, saturation))
        mixed = share * pixels.astype(np.int32) + (256 - share) * _grey(pixels)[:, :, None] + 128
        pixels[:] = (mixed >> 8).clip(0, 255)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """ITU-R 601 luma, [S, S]."""
    if pixels.shape[2] == 1:
        return pixels[:, :, 0].astype(np.int32)
    return np.asarray(Image.fromarray(pixels).convert("L")).astype(np.int32)


def _between(limits: tuple[float, float], drawn: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * drawn
