"""What a model would find, on planted vectors and against plain loops."""

import numpy as np
import pytest

from sf2cli.audit import likeness
from sf2cli.audit.likeness import (
    like_pairs,
    means,
    one_person_threshold,
    self_likeness,
    strangers,
    unit,
)
from sf2cli.audit.people import _groups


@pytest.fixture
def planted():
    """Eight identities of three to six vectors around directions of their own; labels."""
    random = np.random.default_rng(0)
    centres = unit(random.normal(size=(8, 16)).astype(np.float32))
    labels = np.repeat(np.arange(8), [3, 4, 5, 6, 3, 4, 5, 6])
    noise = random.normal(size=(len(labels), 16)).astype(np.float32)
    return unit(centres[labels] + 0.1 * noise), labels


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_strangers_are_those_of_a_plain_loop(planted, monkeypatch):
    vectors, labels = planted
    vectors = vectors.copy()
    vectors[0], vectors[20] = vectors[30], vectors[5]
    monkeypatch.setattr(likeness, "_ROWS", 7)
    found = {one.image: one for one in strangers(vectors, labels, means(vectors, labels, 8))}
    expected = {}
    for i, vector in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i and labels[j] == labels[i]]
        own = cosine(vector, vectors[others].sum(axis=0))
        to = {
            k: cosine(vector, vectors[labels == k].sum(axis=0)) for k in set(labels) - {labels[i]}
        }
        nearest = max(to, key=to.get)
        if to[nearest] > own:
            expected[i] = (own, nearest, to[nearest])
    assert {0, 20} <= set(expected)
    assert set(found) == set(expected)
    for i, (own, nearest, other) in expected.items():
        assert (found[i].own, found[i].other) == pytest.approx((own, other), abs=1e-5)
        assert found[i].identity == nearest
    gaps = [one.other - one.own for one in strangers(vectors, labels, means(vectors, labels, 8))]
    assert gaps == sorted(gaps, reverse=True)


def test_a_single_image_is_no_stranger(planted):
    vectors, labels = planted
    vectors, labels = np.r_[vectors, vectors[:1]], np.r_[labels, 8]
    listed = strangers(vectors, labels, means(vectors, labels, 9))
    assert len(vectors) - 1 not in [one.image for one in listed]


def test_like_pairs_are_those_of_a_plain_loop(planted, monkeypatch):
    vectors, _ = planted
    monkeypatch.setattr(likeness, "_ROWS", 5)
    for others in (None, vectors[::3]):
        pairs, cosines = like_pairs(vectors, others, 0.6)
        right = vectors if others is None else others
        expected = {
            (i, j): cosine(a, b)
            for i, a in enumerate(vectors)
            for j, b in enumerate(right)
            if cosine(a, b) >= 0.6 and (others is not None or i < j)
        }
        assert len(expected) > 20
        assert {tuple(pair) for pair in pairs.tolist()} == set(expected)
        assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
        values = [expected[tuple(pair)] for pair in pairs.tolist()]
        assert cosines.tolist() == pytest.approx(values, abs=1e-5)


def test_one_person_under_two_names_is_above_the_threshold_and_others_are_below(planted):
    vectors, labels = planted
    # Identity 3 is two: every other of its six vectors is called 8.
    labels = labels.copy()
    labels[np.flatnonzero(labels == 3)[::2]] = 8
    threshold = one_person_threshold(self_likeness(vectors, labels, 9))
    pairs, _ = like_pairs(means(vectors, labels, 9).units, None, threshold)
    assert pairs.tolist() == [[3, 8]]


def test_likeness_to_itself_is_between_every_other_image():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 1, 2, 2, 3]]
    labels = np.array([5, 5, 5, 5, 0, 0, 2])
    # Identity 5: images 0 and 2 against 1 and 3; 2 has one image, the others none.
    assert self_likeness(vectors, labels, 6).tolist() == [1.0, 0.0]
    assert one_person_threshold(np.zeros(0, np.float32)) == 1.0


def test_groups_join_what_pairs_join():
    counts = [1, 9, 2, 2, 5, 5, 7]
    pairs = [(0, 1), (2, 3), (1, 2), (5, 6)]
    assert _groups(pairs, counts) == [[1, 2, 3, 0], [6, 5]]
    assert _groups([], counts) == []
