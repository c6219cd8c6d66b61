"""Template pooling against a loop that says what it is."""

import numpy as np
import pytest

from sf2cli.evaluation.templates import pool


def plain_pool(features, templates, media, weights):
    found = {}
    for template in sorted(set(templates.tolist())):
        total = 0
        for medium in sorted({m for t, m in zip(templates, media, strict=True) if t == template}):
            mine = [
                features[i].astype(np.float64) * (1 if weights is None else weights[i])
                for i in range(len(features))
                if (templates[i], media[i]) == (template, medium)
            ]
            total = total + sum(mine) / len(mine)
        norm = np.linalg.norm(total)
        found[template] = total / norm if norm else total
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_pool(seed, weighted):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 40))
    features = generator.normal(size=(n, 5)).astype(np.float32)
    # One medium may serve several templates.
    templates, media = generator.integers(-3, 6, n), generator.integers(0, 4, n)
    weights = generator.random(n) if weighted else None
    found = pool(features, templates, media, weights)
    expected = plain_pool(features, templates, media, weights)
    assert found.ids.tolist() == list(expected)
    np.testing.assert_allclose(found.rows, list(expected.values()), atol=1e-6)
    for k, template in enumerate(found.ids):
        assert found.images[k] == (templates == template).sum()
        assert found.media[k] == len(set(media[templates == template].tolist()))


def test_features_that_cancel_make_a_template_like_nothing():
    found = pool(np.float32([[1, 2], [-1, -2]]), np.array([7, 7]), np.array([1, 2]))
    np.testing.assert_array_equal(found.rows, [[0, 0]])


def test_places():
    found = pool(np.eye(3, dtype=np.float32), np.array([5, 2, 9]), np.zeros(3, int))
    assert found.places(np.array([9, 3, 2, 10, -1])).tolist() == [2, -1, 0, -1, -1]


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        pool(np.float32([[np.nan, 1]]), np.zeros(1, int), np.zeros(1, int))
    with pytest.raises(ValueError, match="1 features, 2 templates"):
        pool(np.ones((1, 2), np.float32), np.zeros(2, int), np.zeros(2, int))
