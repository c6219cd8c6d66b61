"""Five landmarks of a face onto the 112 x 112 template that face models expect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 112
NAME = f"{SIZE} x {SIZE}, five points"
# Left eye, right eye, nose, left and right corner of the mouth, as seen in the image; x, y.
TEMPLATE: NDArray[np.float64] = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
_GRID = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).astype(np.float64)
_CORNERS = np.array([(0, 0), (SIZE - 1, 0), (0, SIZE - 1), (SIZE - 1, SIZE - 1)], np.float64)


def similarity(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift that bring `points` closest to `targets`, never a reflection.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", IEEE PAMI 13 (1991), equations 39 to 43.

    Args:
        points: [n, 2].
        targets: [n, 2].

    Returns:
        float64 [2, 3]: a target is about `m[:, :2] @ point + m[:, 2]`.

    Raises:
        ValueError: the points are not finite, or all lie in one place.
    """
    points, targets = np.asarray(points, np.float64), np.asarray(targets, np.float64)
    if not np.isfinite(points).all():
        raise ValueError("landmarks that are no numbers")
    centre, goal = points.mean(axis=0), targets.mean(axis=0)
    spread = float(((points - centre) ** 2).sum())
    if spread < 1e-12:
        raise ValueError("landmarks that all lie in one place")
    left, lengths, right = np.linalg.svd((targets - goal).T @ (points - centre))
    sign = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    linear = (lengths * sign).sum() / spread * (left * sign) @ right
    return np.column_stack([linear, goal - linear @ centre])


def align(image: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The face, turned, scaled and cut out.

    Bilinear without antialiasing, and black outside of the image, as the published models were
    trained and measured.

    Args:
        image: uint8 [H, W, c], c = 1 or 3.
        landmarks: float64 [5, 2], pixels (x, y), a whole number being a pixel's centre; in
            TEMPLATE's order.

    Returns:
        uint8 [112, 112, c].

    Raises:
        ValueError: landmarks that give no place for the face.
    """
    m = similarity(landmarks, TEMPLATE)
    places = (_GRID - m[:, 2]) @ np.linalg.inv(m[:, :2]).T
    corners = np.floor(places)
    right, down = np.moveaxis(places - corners, -1, 0)
    left, top = np.moveaxis(corners, -1, 0)
    height, width, channels = image.shape
    pixels = image.reshape(-1, channels)
    total = np.zeros((SIZE, SIZE, channels))
    for x, across in ((left, 1 - right), (left + 1, right)):
        for y, along in ((top, 1 - down), (top + 1, down)):
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            numbers = np.where(inside, y * width + x, 0).astype(np.intp)
            total += (across * along * inside)[:, :, None] * pixels.take(numbers, axis=0)
    return np.rint(total).astype(np.uint8)


def is_aligned(height: int, width: int, landmarks: NDArray[np.float64]) -> bool:
    """Whether aligning would move no part of the image by a pixel."""
    if (height, width) != (SIZE, SIZE):
        return False
    m = similarity(landmarks, TEMPLATE)
    moved = _CORNERS @ m[:, :2].T + m[:, 2] - _CORNERS
    return bool(np.hypot(*moved.T).max() < 1)
