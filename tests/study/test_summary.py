"""Means over seeds, and the paired t interval."""

import math
import statistics

import numpy as np
import pytest

from sf2cli.study.summary import paired_difference, summarise, t_quantile


def test_mean_deviation_and_difference():
    runs = {seed: {"EER": value} for seed, value in enumerate((4.0, 5.0, 9.0))}
    baseline = {seed: {"EER": value} for seed, value in enumerate((5.0, 7.0, 8.0))}
    found = summarise(runs, baseline)["EER"]
    assert found.mean == 6.0
    assert found.sd == pytest.approx(statistics.stdev((4.0, 5.0, 9.0)))
    assert found.difference.mean == pytest.approx((-1 - 2 + 1) / 3)
    assert not found.difference.clear
    assert summarise(runs, None)["EER"].difference is None


@pytest.mark.parametrize(
    # Student's table.
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)],
)
def test_quantiles_are_those_of_the_table(freedom, quantile):
    assert t_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-5)


def test_interval_is_that_of_the_paired_t_test():
    found = paired_difference({1: 3.0, 2: 4.0, 3: 7.0}, {1: 1.0, 2: 3.5, 3: 2.0})
    # Differences 2, .5 and 5: mean 2.5, deviation 2.2913, t 4.3027, root of 3.
    assert found.low == pytest.approx(2.5 - 5.6919, abs=1e-3)
    assert found.high == pytest.approx(2.5 + 5.6919, abs=1e-3)
    assert not found.clear
    assert paired_difference({1: 3.0, 2: 4.0}, {1: 2.0, 2: 2.9}).clear


def test_intervals_cover_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(1, 2, (2000, 3))
    found = [paired_difference(dict(enumerate(d)), dict.fromkeys(range(3), 0.0)) for d in draws]
    assert sum(one.low <= 1 <= one.high for one in found) == pytest.approx(1900, abs=30)


@pytest.mark.parametrize("seeds", [1, 2])
def test_no_star_without_an_interval(seeds):
    found = paired_difference(dict.fromkeys(range(seeds), 9.0), dict.fromkeys(range(seeds), 1.0))
    assert (found.low is None) == (seeds == 1)
    assert not found.clear


def test_only_common_seeds_are_paired():
    assert paired_difference({1: 2.0, 2: 9.0}, {1: 1.0, 3: 50.0}).mean == 1.0
    assert paired_difference({1: 2.0}, {2: 1.0}) is None


def test_one_seed_has_no_deviation_and_a_metric_may_be_missing():
    found = summarise({1: {"EER": 2.0}, 2: {"EER": 4.0, "TPIR": 50.0}}, {1: {"EER": 1.0}})
    assert found["TPIR"].sd is None
    assert found["TPIR"].difference is None
    assert math.isclose(found["EER"].difference.mean, 1.0)
