"""Cosines of pairs against numpy on whole float64 rows."""

import numpy as np
import pytest

from sf2cli.evaluation import scoring
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.scoring import all_cosines, dense_cosines, listed_cosines


def plain_cosines(rows, first, second):
    rows = rows.astype(np.float64)
    return [
        a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(rows[first], rows[second], strict=True)
    ]


def make_rows(kind, n=23, d=7):
    generator = np.random.default_rng(0)
    if kind == np.uint8:
        return generator.integers(0, 256, (n, d), np.uint8)
    return generator.normal(size=(n, d)).astype(kind)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("block", [1, 5, 512])
def test_all_pairs(kind, block, monkeypatch):
    monkeypatch.setattr(scoring, "_BLOCK", block)
    rows = make_rows(kind)
    expected = plain_cosines(rows, *np.triu_indices(len(rows), 1))
    np.testing.assert_allclose(all_cosines(rows, "test"), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("block", [1, 30, 1 << 24])
def test_listed_pairs(kind, block, monkeypatch):
    monkeypatch.setattr(scoring, "_LISTED_BLOCK", block)
    rows = make_rows(kind)
    first, second = np.random.default_rng(1).integers(0, len(rows), (2, 50))
    expected = plain_cosines(rows, first, second)
    np.testing.assert_allclose(listed_cosines(rows, first, second), expected, atol=1e-14)


@pytest.mark.parametrize("block", [(1, 1), (3, 5), (2048, 4096)])
def test_many_pairs_of_few_rows(block, monkeypatch):
    monkeypatch.setattr(scoring, "_DENSE_BLOCK", block)
    rows = unit_rows(make_rows(np.float32))
    first, second = np.random.default_rng(1).integers(2, len(rows) - 2, (2, 300))
    expected = plain_cosines(rows, first, second)
    np.testing.assert_allclose(dense_cosines(rows, first, second, "test"), expected, atol=1e-6)


def test_black_images_are_like_nothing_and_equal_ones_never_above_1():
    rows = np.array([[0, 0, 0], [3, 7, 9], [3, 7, 9], [0, 0, 0]], np.uint8)
    first, second = np.triu_indices(4, 1)
    for cosines in (all_cosines(rows, "test"), listed_cosines(rows, first, second)):
        np.testing.assert_allclose(cosines, [0, 0, 0, 1, 0, 0], atol=1e-6)
        assert cosines.max() <= 1


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_make_no_pairs(n):
    assert len(all_cosines(np.ones((n, 3), np.float32), "test")) == 0
