"""MegaFace's metrics against loops over every pair, ties included."""

from fractions import Fraction

import numpy as np
import pytest

from sf2cli.evaluation import megaface
from sf2cli.evaluation.megaface import search_distractors

FAR_TARGETS = (0.3, 0.05, 0.01)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(megaface, "RANKS", (1, 2, 4))
    monkeypatch.setattr(megaface, "FARS", FAR_TARGETS)


def random_photos(seed):
    """Rows whose products are exact in float32 and often equal."""
    generator = np.random.default_rng(seed)
    probes, distractors = generator.integers(1, [20, 60])
    rows = [generator.integers(-2, 3, (n, 4)).astype(np.float32) / 4 for n in (probes, distractors)]
    return rows[0], generator.integers(0, 4, probes), rows[1]


@pytest.fixture(params=[1, 7, 2048])
def columns(request, monkeypatch):
    monkeypatch.setattr(megaface, "_COLUMNS", request.param)


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """The rows are not of unit length, so that their products stay exact."""
    monkeypatch.setattr(
        megaface, "listed_cosines", lambda rows, i, j: np.einsum("pd,pd->p", rows[i], rows[j])
    )


def trials(rows, people):
    return [
        (i, j)
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j and people[i] == people[j]
    ]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_rank_rate(seed, rank, columns):
    probes, people, distractors = random_photos(seed)
    found = search_distractors(probes, people, distractors, "test").rank_rate(rank)
    hits = 0
    for i, j in trials(probes, people):
        scores = sorted((float(probes[j] @ d) for d in distractors), reverse=True)
        hits += len(scores) < rank or float(probes[i] @ probes[j]) > scores[rank - 1]
    assert (found.hits, found.probes) == (hits, len(trials(probes, people)))
    supported = rank <= len(distractors) and found.probes
    assert found.rate == (hits / found.probes if supported else None)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("far", FAR_TARGETS)
def test_tar_at_far(seed, far, columns):
    probes, people, distractors = random_photos(seed)
    found = search_distractors(probes, people, distractors, "test").tar_at_far(far)
    genuine = [float(probes[i] @ probes[j]) for i, j in trials(probes, people) if i < j]
    impostor = [float(p @ d) for p in probes for d in distractors]
    assert found.impostors == len(impostor)
    allowed = Fraction(str(far)) * len(impostor)
    if allowed < 1 or not genuine:
        assert found.tar is None
        return
    fitting = [
        sum(g >= t for g in genuine)
        for t in set(genuine + impostor)
        if sum(s >= t for s in impostor) <= allowed
    ]
    assert found.tar == max(fitting, default=0) / len(genuine)
    assert sum(s >= found.threshold for s in impostor) == found.accepted_impostors <= allowed
    assert sum(g >= found.threshold for g in genuine) / len(genuine) == found.tar
