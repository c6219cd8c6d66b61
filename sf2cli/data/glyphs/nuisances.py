"""What makes two pictures of a character by one face differ, from a seed and its own name alone.

All of it comes from the raw bits of PCG64, whose stream numpy promises to keep.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf2cli.data.glyphs.settings import GlyphSettings

# The deviation of a sum of four whole numbers below 2^16, each as likely.
_FOUR_SD = 65536 / math.sqrt(3)
_FOUR_MEAN = 2 * 65535
# Sines differ in their last bit between machines; 2^-20 of a pixel does not.
_STEPS = 1 << 20


def disturb(
    picture: NDArray[np.uint8], settings: GlyphSettings, key: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Move, turn, stretch and shear a picture; lower its contrast; cover and add noise to it.

    Args:
        picture: ink on nothing, uint8 [size, size].
        settings: how much of each.
        key: names the draw: equal keys give equal pictures.

    Returns:
        uint8 [size, size].
    """
    bits = np.random.PCG64(key)
    size = settings.size

    def between(low: float, high: float) -> float:
        return low + (high - low) * (int(bits.random_raw()) >> 11) * 2.0**-53

    moved = Image.fromarray(picture).transform(
        (size, size),
        Image.Transform.AFFINE,
        _inverse(
            math.radians(between(-settings.rotation, settings.rotation)),
            (between(*settings.stretch), between(*settings.stretch)),
            between(-settings.shear, settings.shear),
            (
                size * between(-settings.shift, settings.shift),
                size * between(-settings.shift, settings.shift),
            ),
            size / 2,
        ),
        Image.Resampling.BILINEAR,
    )
    contrast = between(*settings.contrast)
    grey = np.asarray(moved) * contrast + 255 * between(0, 1 - contrast)
    width = round(size * between(0, settings.bar))
    left = int(between(0, size - width + 1))
    grey[:, left : left + width] = 255 * between(0, 1)
    grey += 255 * between(*settings.noise) * _normal(bits, size)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _inverse(
    angle: float,
    stretch: tuple[float, float],
    shear: float,
    shift: tuple[float, float],
    centre: float,
) -> tuple[float, ...]:
    """Where a pixel of the result comes from: x' = a x + b y + c, y' = d x + e y + f.

    The picture is stretched and sheared, turned, then shifted, about its centre.
    """
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    (a, b), (d, e) = np.linalg.inv(turn @ np.array([[stretch[0], shear], [0.0, stretch[1]]]))
    x, y = centre + shift[0], centre + shift[1]
    exact = (a, b, centre - a * x - b * y, d, e, centre - d * x - e * y)
    return tuple(round(float(value) * _STEPS) / _STEPS for value in exact)


def _normal(bits: np.random.PCG64, size: int) -> NDArray[np.float64]:
    """Nearly normal numbers [size, size]: sums of four even ones, exact on any machine."""
    words = bits.random_raw(size * size).astype("<u8").view("<u2")
    sums: NDArray[np.int64] = words.reshape(size, size, 4).sum(axis=2, dtype=np.int64)
    return (sums - _FOUR_MEAN) / _FOUR_SD
