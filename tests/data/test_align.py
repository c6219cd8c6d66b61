"""Alignment against plainly correct versions: linear least squares, and a loop over the pixels."""

import math

import numpy as np
import pytest

from sf2cli.data.align import SIZE, TEMPLATE, align, is_aligned, similarity
from tests.pictures import noise


def by_least_squares(points, targets):
    """A turn with a scale is (u, v) = (a x - b y + c, b x + a y + d): linear in a, b, c, d."""
    rows, values = [], []
    for (x, y), (u, v) in zip(points, targets, strict=True):
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
        values += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


def plainly_aligned(image, landmarks):
    """Each pixel looked up between its four neighbours; black where there is none."""
    m = by_least_squares(landmarks, TEMPLATE)
    back = np.linalg.inv(m[:, :2])
    result = np.zeros((SIZE, SIZE, image.shape[2]))

    def pixel(x, y):
        inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
        return image[y, x].astype(float) if inside else np.zeros(image.shape[2])

    for v in range(SIZE):
        for u in range(SIZE):
            x, y = back @ (np.array([u, v]) - m[:, 2])
            left, top = math.floor(x), math.floor(y)
            p, q = x - left, y - top
            result[v, u] = (1 - q) * ((1 - p) * pixel(left, top) + p * pixel(left + 1, top)) + q * (
                (1 - p) * pixel(left, top + 1) + p * pixel(left + 1, top + 1)
            )
    return result


def placed(angle, scale, shift, jitter=0.0, seed=0):
    """Landmarks of a face that is turned by `angle` degrees, enlarged and moved."""
    turn = math.radians(angle)
    matrix = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return TEMPLATE @ matrix.T + shift + np.random.default_rng(seed).normal(0, jitter, (5, 2))


@pytest.mark.parametrize("seed", range(20))
def test_similarity_is_the_best_in_least_squares(seed):
    random = np.random.default_rng(seed)
    points = random.normal(0, 50, (5, 2)) + random.normal(0, 500, 2)
    # Mirrored points too, to which a reflection would be closer.
    targets = TEMPLATE if seed % 2 else TEMPLATE[[1, 0, 2, 4, 3]]
    found = similarity(points, targets)
    assert np.allclose(found, by_least_squares(points, targets), rtol=1e-9, atol=1e-7)
    assert np.linalg.det(found[:, :2]) > 0


def test_similarity_finds_the_placement_again():
    found = similarity(placed(37, 2.5, (300, -20)), TEMPLATE)
    turn = math.radians(-37)
    expected = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) / 2.5
    assert np.allclose(found[:, :2], expected)
    assert np.allclose(found[:, :2] @ (300, -20) + found[:, 2], 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "landmarks",
    [placed(0, 1.6, (10, 5)), placed(-25, 1.2, (60, -10), jitter=3), placed(170, 0.7, (150, 90))],
)
def test_a_face_is_cut_out_as_a_plain_loop_does_it(landmarks, channels):
    image = noise(140, 200, channels)
    face = align(image, landmarks)
    assert (face.shape, face.dtype) == ((SIZE, SIZE, channels), np.uint8)
    assert np.abs(face - plainly_aligned(image, landmarks)).max() <= 0.5 + 1e-6


def test_landmarks_on_the_template_change_nothing():
    image = noise(SIZE, SIZE)
    assert np.array_equal(align(image, TEMPLATE), image)


def test_what_counts_as_aligned():
    assert is_aligned(SIZE, SIZE, TEMPLATE)
    # Once it has been aligned, a face that is not the template's shape stays where it is.
    face = placed(20, 2, (50, 0), jitter=9)
    m = similarity(face, TEMPLATE)
    moved = face @ m[:, :2].T + m[:, 2]
    assert np.abs(moved - TEMPLATE).max() > 2
    assert is_aligned(SIZE, SIZE, moved)
    assert not is_aligned(SIZE, SIZE, TEMPLATE + 1)
    assert not is_aligned(SIZE, SIZE, placed(1, 1, (0, 0)))
    assert not is_aligned(SIZE, SIZE + 1, TEMPLATE)


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_landmarks_that_place_nothing(landmarks):
    with pytest.raises(ValueError, match="landmarks that"):
        align(noise(20, 20), landmarks)
