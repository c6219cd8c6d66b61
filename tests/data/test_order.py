import numpy as np
import pytest

from sf2cli.data.order import EpochOrder, epoch_flips, epoch_order, spares


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 1000])
def test_an_order_is_a_permutation(samples):
    order = epoch_order(samples, seed=3, epoch=5)
    assert order.dtype == np.int64
    assert (np.sort(order) == np.arange(samples)).all()
    flips = epoch_flips(samples, seed=3, epoch=5)
    assert (flips.dtype, flips.shape) == (np.bool_, (samples,))


def test_order_and_flips_never_change():
    """Runs are resumed by them: other values here would break every run that is under way."""
    assert epoch_order(10, seed=1, epoch=2).tolist() == [5, 6, 9, 3, 2, 1, 0, 8, 4, 7]
    assert np.flatnonzero(epoch_flips(10, seed=1, epoch=2)).tolist() == [0, 1, 3, 5, 9]


def test_seed_and_epoch_both_matter():
    orders = {
        tuple(epoch_order(50, seed, epoch).tolist()) for seed in (0, 1) for epoch in (0, 1, 2)
    }
    assert len(orders) == 6
    flips = {tuple(epoch_flips(50, seed, e).tolist()) for seed in (0, 1) for e in (0, 1, 2)}
    assert len(flips) == 6


def test_half_are_flipped_whatever_their_place():
    n = 20_000
    flips, order = epoch_flips(n, 0, 0), epoch_order(n, 0, 0)
    # Five standard deviations.
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / n**0.5
    assert abs(flips[order[: n // 2]].mean() - 0.5) < 5 * 0.5 / (n / 2) ** 0.5


@pytest.mark.parametrize("window", [1, 2, 4, 5, 9])
def test_a_windowed_order_goes_through_the_shards_a_few_at_a_time(window):
    counts = np.array([5, 1, 7, 3, 4])
    shard_of = np.repeat(np.arange(5), counts)
    order = EpochOrder.draw(counts, window, 3, 2)
    assert sorted(order.samples.tolist()) == list(range(20))
    assert sorted(np.concatenate(order.windows).tolist()) == list(range(5))
    start = 0
    for number, (shards, end) in enumerate(zip(order.windows, order.ends, strict=True)):
        assert len(shards) == window or number == len(order.windows) - 1
        assert set(shard_of[order.samples[start:end]]) == set(shards)
        assert [order.window_of(p) for p in range(start, end)] == [number] * (end - start)
        start = end
    assert EpochOrder.draw(counts, window, 3, 3).samples.tolist() != order.samples.tolist()
    assert EpochOrder.draw(counts, window, 4, 2).samples.tolist() != order.samples.tolist()
    assert (EpochOrder.draw(counts, window, 3, 2).samples == order.samples).all()


def test_spares_hang_on_the_sample():
    assert spares(10, 0, 0, 3, 100).tolist() == spares(10, 0, 0, 3, 100).tolist()
    assert set(spares(10, 0, 0, 3, 100).tolist()) == set(range(10))
    for other in ((1, 0, 3), (0, 1, 3), (0, 0, 4)):
        assert spares(10, *other, 100).tolist() != spares(10, 0, 0, 3, 100).tolist()
