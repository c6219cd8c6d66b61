import numpy as np
import pytest

from sf2cli.data.augment import Augment, augment

SIZE = 16


def ramp(channels=1):
    """Pixels that grow by 8 a column and 4 a row."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.repeat((rows * 4 + columns * 8)[:, :, None], channels, 2).astype(np.uint8)


def test_nothing_asked_for_is_nothing_done():
    assert not Augment()
    np.testing.assert_array_equal(augment(ramp(3), Augment(), 0, 0, 0), ramp(3))


def test_a_change_belongs_to_seed_epoch_and_sample():
    limits = Augment(shift=2, scale=0.1, brightness=0.3, contrast=0.3)
    first = augment(ramp(), limits, 1, 2, 3)
    np.testing.assert_array_equal(augment(ramp(), limits, 1, 2, 3), first)
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert (augment(ramp(), limits, *other) != first).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_move_by_at_most_what_is_said(channels):
    inner = slice(4, 12)
    moves = []
    for sample in range(200):
        moved = augment(ramp(channels), Augment(shift=2), 0, 0, sample).astype(float)
        assert moved.shape == (SIZE, SIZE, channels)
        moves.append((moved - ramp(channels))[inner, inner].mean())
    # 8 a column and 4 a row, two pixels each.
    assert 15 < max(moves) <= 24.5
    assert -24.5 <= min(moves) < -15
    assert abs(np.mean(moves)) < 2


def test_scale_keeps_the_middle_and_changes_the_slope():
    slopes = []
    for sample in range(100):
        view = augment(ramp(), Augment(scale=0.2), 0, 0, sample).astype(float)[:, :, 0]
        assert view[7:9, 7:9].mean() == pytest.approx(ramp()[7:9, 7:9].mean(), abs=2)
        slopes.append((view[8, 11] - view[8, 4]) / 7)
    assert min(slopes) == pytest.approx(8 * 0.8, abs=0.4)
    assert max(slopes) == pytest.approx(8 * 1.2, abs=0.4)


def test_brightness_and_contrast_stay_in_their_limits():
    means, spreads = [], []
    for sample in range(200):
        lit = augment(ramp() // 2 + 40, Augment(brightness=0.2, contrast=0.3), 0, 0, sample)
        means.append(lit.mean() / (ramp() // 2 + 40).mean())
        spreads.append(lit.std() / lit.mean() * (ramp() // 2 + 40).mean() / (ramp() // 2).std())
    assert 0.79 < min(means) < 0.85
    assert 1.15 < max(means) < 1.21
    assert 0.68 < min(spreads) < 0.76
    assert 1.24 < max(spreads) < 1.32
