import itertools

import numpy as np
import pytest

from sf2cli.audit.fingerprint import BITS, NEAR_BITS, WORDS, fingerprint, near_pairs
from sf2cli.data.images import decode_image, resize
from sf2cli.data.sources.att import AttSource
from tests.pictures import encode


def differ(a, b):
    return sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True))


def plainly_near(hashes, limit):
    pairs = itertools.combinations(range(len(hashes)), 2)
    return [(i, j) for i, j in pairs if differ(hashes[i], hashes[j]) <= limit]


def flipped(hashed, bits, random):
    """A hash with `bits` of its bits turned over."""
    chosen = random.choice(BITS, bits, replace=False)
    word = hashed.copy()
    for bit in chosen:
        word[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return word


@pytest.mark.parametrize("limit", [0, 1, NEAR_BITS, 63, 100])
def test_near_pairs_are_those_of_a_plain_loop(limit):
    random = np.random.default_rng(limit)
    hashes = random.integers(0, 2**64, (120, WORDS), dtype=np.uint64)
    # Copies at each distance around the limit, exact ones, and a blank row three times.
    hashes[40:60] = [flipped(hashes[i], max(0, limit - 1 + i % 3), random) for i in range(20)]
    hashes[60:65] = hashes[0]
    hashes[70:73] = 0
    pairs, bits = near_pairs(hashes, limit)
    expected = plainly_near(hashes, limit)
    assert len(expected) >= 18
    assert [tuple(pair) for pair in pairs.tolist()] == expected
    assert bits.tolist() == [differ(hashes[i], hashes[j]) for i, j in expected]


def test_no_hashes_have_no_pairs():
    for n in (0, 1):
        pairs, bits = near_pairs(np.zeros((n, WORDS), np.uint64))
        assert (pairs.shape, bits.shape) == ((0, 2), (0,))


def test_a_patch_that_grows_brighter_to_the_right_is_a_one():
    ramp = np.tile(np.arange(34, dtype=np.uint8) * 5, (32, 1))[:, :, None]
    assert (fingerprint(ramp) == np.uint64(2**64 - 1)).all()
    assert (fingerprint(ramp[:, ::-1]) == 0).all()


@pytest.fixture(scope="module")
def faces():
    identities = list(AttSource().identities())
    return [decode_image(image.read(), 1) for one in identities[:20] for image in one.images]


def test_a_copy_is_near_and_another_face_is_not(faces):
    hashes = np.array([fingerprint(face) for face in faces])
    assert len(near_pairs(hashes)[0]) == 0
    for change in (
        lambda face: decode_image(encode(face[:, :, 0], "JPEG", quality=60), 1),
        lambda face: resize(resize(face, 64), 112),
        lambda face: np.clip(face * 0.8 + 20, 0, 255).astype(np.uint8),
    ):
        copies = np.array([fingerprint(change(face)) for face in faces])
        pairs, _ = near_pairs(np.concatenate([hashes, copies]))
        n = len(faces)
        assert {(i, i + n) for i in range(n)} <= {tuple(pair) for pair in pairs.tolist()}
        assert all(j - i == n for i, j in pairs.tolist() if i < n <= j and i // 10 != (j - n) // 10)
