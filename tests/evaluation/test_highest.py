"""Streams of scores against one sort of them all."""

import numpy as np
import pytest

from sf2cli.evaluation import highest
from sf2cli.evaluation.highest import Highest, HighestOfRows


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch):
    """So that a short stream overflows them."""
    monkeypatch.setattr(highest, "_SLACK", 8)


def stream(seed):
    generator = np.random.default_rng(seed)
    steps = int(generator.choice([2, 10, 1000]))
    parts = [generator.integers(0, steps, generator.integers(0, 30)) / steps for _ in range(12)]
    return [part.astype(np.float32) for part in parts]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [1, 5, 50, 1000])
def test_highest(seed, count):
    kept, parts = Highest(count), stream(seed)
    for part in parts:
        kept.add(kept.fresh(part))
    expected = np.sort(np.concatenate(parts))[::-1][:count]
    np.testing.assert_array_equal(kept.descending(), expected)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [1, 3, 40])
def test_highest_of_rows(seed, count):
    generator = np.random.default_rng(seed)
    kept, shown = HighestOfRows(5, count), [[] for _ in range(5)]
    for part in stream(seed):
        rows = generator.integers(0, 5, len(part))
        for row, score in zip(rows, part, strict=True):
            shown[row].append(score)
        wanted = part >= kept.floors[rows]
        kept.add(rows[wanted], part[wanted])
    for found, scores in zip(kept.descending(), shown, strict=True):
        expected = [*sorted(scores, reverse=True), *[-np.inf] * count][:count]
        np.testing.assert_array_equal(found, np.array(expected, np.float32))
