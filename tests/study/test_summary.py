"""Means over seeds, and the paired bootstrap."""

import itertools
import math
import statistics

import numpy as np
import pytest

from sf2cli.study.summary import paired_difference, summarise


def test_mean_deviation_and_difference():
    runs = {seed: {"EER": value} for seed, value in enumerate((4.0, 5.0, 9.0))}
    baseline = {seed: {"EER": value} for seed, value in enumerate((5.0, 7.0, 8.0))}
    found = summarise(runs, baseline)["EER"]
    assert found.mean == 6.0
    assert found.sd == pytest.approx(statistics.stdev((4.0, 5.0, 9.0)))
    assert found.difference.mean == pytest.approx((-1 - 2 + 1) / 3)
    assert not found.difference.clear
    assert summarise(runs, None)["EER"].difference is None


def test_interval_is_that_of_every_draw_of_the_seeds():
    values = {1: 3.0, 2: 4.0, 3: 7.0}
    baseline = {1: 1.0, 2: 3.5, 3: 2.0}
    differences = [values[s] - baseline[s] for s in values]
    every = [statistics.mean(draw) for draw in itertools.product(differences, repeat=3)]
    low, high = np.quantile(every, [0.025, 0.975], method="inverted_cdf")
    found = paired_difference(values, baseline)
    # 27 draws have few means: the sampled quantile is one of them, or beside it.
    assert found.low == pytest.approx(low, abs=0.35)
    assert found.high == pytest.approx(high, abs=0.35)
    assert found.clear


def test_only_common_seeds_are_paired():
    assert paired_difference({1: 2.0, 2: 9.0}, {1: 1.0, 3: 50.0}).mean == 1.0
    assert paired_difference({1: 2.0}, {2: 1.0}) is None


def test_one_seed_has_no_deviation_and_a_metric_may_be_missing():
    found = summarise({1: {"EER": 2.0}, 2: {"EER": 4.0, "TPIR": 50.0}}, {1: {"EER": 1.0}})
    assert found["TPIR"].sd is None
    assert found["TPIR"].difference is None
    assert math.isclose(found["EER"].difference.mean, 1.0)
