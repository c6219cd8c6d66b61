"""The probability that the loss gives, against the loss's own minimum and plain loops."""

import math

import numpy as np
import pytest
import torch

from sf2cli.evaluation.calibration import Reading, calibrate, readings
from sf2cli.evaluation.verification import SortedScores
from sf2cli.heads.sphereface2 import SphereFace2, negatives, positives
from tests.evaluation.test_verification import random_pairs

HEAD = {"loss": "sphereface2", "lambda": 0.7, "r": 30.0, "m": 0.3, "t": 3.0, "bias": 4.0}
CARD = {**HEAD, "num_classes": 30}


def test_prior_reading_undoes_the_class_weights_and_the_number_of_classes():
    """Without a margin the loss of an image and a row that match with chance p is least where the
    reading, at the prior 1 / K of training, says p."""
    hp = SphereFace2(lam=0.7, r=30, m=0, t=3)
    reading = readings(CARD, prior=1 / 30)[1]
    cosines = torch.linspace(-0.5, 0.9, 15, dtype=torch.float64)
    for cos in cosines:
        p = float(reading.probability(cos.numpy()))
        shift = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        bias = HEAD["bias"] + shift
        loss = p * positives(cos, bias, hp).loss + (1 - p) * negatives(cos, bias, hp).loss
        # Moving the logit either way would not lower the loss.
        assert float(torch.autograd.grad(loss, shift)[0]) == pytest.approx(0, abs=1e-12)


def test_threshold_is_where_the_chance_is_one_half():
    for reading in readings(CARD, prior=0.5):
        assert float(reading.probability(reading.threshold)) == pytest.approx(0.5, abs=1e-12)
    assert Reading("trained", r=2.0, t=3.0, bias=5.0).threshold is None


def test_trained_reading_is_the_classifiers_own():
    trained = readings(CARD, prior=0.5)[0]
    cos = 0.37
    logit = 30 * (2 * ((cos + 1) / 2) ** 3 - 1) + 4
    assert float(trained.probability(cos)) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-12)


@pytest.mark.parametrize("head", [{}, {**CARD, "loss": "arcface"}, {"loss": "sphereface2"}])
def test_other_heads_have_no_reading(head):
    assert readings(head, prior=0.5) == []


def test_one_class_has_no_prior_to_undo():
    assert [reading.name for reading in readings({**CARD, "num_classes": 1}, 0.5)] == ["trained"]


@pytest.mark.parametrize("seed", range(20))
def test_calibrate(seed):
    scores, issame = random_pairs(seed)
    reading = Reading("trained", r=5.0, t=3.0, bias=1.0)
    found = calibrate(SortedScores.of(scores - 0.5, issame), reading, bins=4)
    pairs = sorted(zip((scores - 0.5).tolist(), issame.tolist(), strict=True))
    chances = [1 / (1 + math.exp(-(5 * (2 * ((s + 1) / 2) ** 3 - 1) + 1))) for s, _ in pairs]
    brier = sum((p - same) ** 2 for p, (_, same) in zip(chances, pairs, strict=True)) / len(pairs)
    assert found.brier == pytest.approx(brier, abs=1e-6)
    right = sum((p >= 0.5) == same for p, (_, same) in zip(chances, pairs, strict=True))
    assert found.accuracy == right / len(pairs)
    # Bins hold whole runs of equal scores, and all pairs once.
    assert sum(one.pairs for one in found.bins) == len(pairs)
    start, error = 0, 0.0
    for one in found.bins:
        part = slice(start, start + one.pairs)
        assert start == 0 or pairs[start - 1][0] < pairs[start][0]
        share = sum(same for _, same in pairs[part]) / one.pairs
        mean = sum(chances[part]) / one.pairs
        assert one.genuine == pytest.approx(share, abs=1e-12)
        error += abs(share - mean) * one.pairs / len(pairs)
        start += one.pairs
    assert found.ece == pytest.approx(error, abs=1e-6)


def test_bins_are_of_equal_mass():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=1000).clip(-1, 1)
    found = calibrate(
        SortedScores.of(scores[np.abs(scores) < 1][:600], np.arange(600) < 200),
        Reading("trained", r=5.0, t=1.0, bias=0.0),
    )
    assert {one.pairs for one in found.bins} == {40}
