"""Wrong labels on purpose."""

import numpy as np

from sf2cli.data.label_noise import noisy_labels


def test_the_share_is_drawn_anew_and_evenly():
    labels = np.repeat(np.arange(50), 400)
    noisy = noisy_labels(labels, 50, 0.4, seed=1)
    changed = noisy != labels
    # One draw in 50 gives the label that was there: 39.2 %, with a standard deviation of 0.35 %.
    assert abs(changed.mean() - 0.392) < 5 * 0.0035
    counts = np.bincount(noisy[changed], minlength=50)
    # 156.8 expected, with a standard deviation of 12.3.
    assert np.abs(counts - 156.8).max() < 5 * 12.3


def test_the_same_draw_whenever_it_is_asked_for_and_another_by_another_seed():
    labels = np.arange(100)
    first = noisy_labels(labels, 100, 0.5, seed=1)
    assert np.array_equal(first, noisy_labels(labels, 100, 0.5, seed=1))
    assert not np.array_equal(first, noisy_labels(labels, 100, 0.5, seed=2))
    assert np.array_equal(noisy_labels(labels, 100, 0.0, seed=1), labels)
