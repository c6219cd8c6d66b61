"""A difference hash of an image: which of its neighbouring patches is the brighter one.

N. Krawetz's dHash at 16 x 16. On the AT&T faces a copy at JPEG quality 50, at half or double the
size or at other brightness differs in 12 bits of the 256 at most, two photographs of one person
in 17 or more, of two persons in 47 or more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf2cli import console

EDGE = 16
BITS = EDGE * EDGE
WORDS = BITS // 64
NEAR_BITS = 12
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def fingerprint(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hash of uint8 [h, w, 1], as uint64 [4]."""
    # In floats: rounded to whole greys, smooth places would be even and their bits chance.
    image = Image.fromarray(pixels[:, :, 0]).convert("F")
    small = np.asarray(image.resize((EDGE + 1, EDGE), Image.Resampling.BILINEAR))
    return np.packbits(small[:, :-1] < small[:, 1:]).view(np.uint64)


def near_pairs(
    hashes: NDArray[np.uint64], limit: int = NEAR_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of hashes that differ in at most `limit` bits.

    Exact: of limit + 1 groups of bits, such a pair shares one whole. Only hashes that share a group
    are compared.

    Args:
        hashes: uint64 [n, 4].
        limit: 0 ... 254.

    Returns:
        int64 [pairs, 2], i < j, in order; and the bits that each pair differs in, int64 [pairs].
    """
    found = [np.zeros((0, 2), np.int64)]
    keys = _keys(hashes, limit + 1)
    with console.progress("compare", len(keys), unit="groups of bits") as line:
        for key in keys:
            found.append(_sharing(key, hashes, limit))
            line.advance()
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs, _distance(hashes, pairs[:, 0], pairs[:, 1])


def _keys(hashes: NDArray[np.uint64], groups: int) -> list[NDArray[np.uint64]]:
    """For each group of bits a number [n] that is equal where they are (and seldom elsewhere)."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), BITS // 8), axis=1)
    keys = []
    # Every so-manieth bit: neighbours, and a black frame, say much the same.
    for group in range(groups):
        packed = np.packbits(bits[:, group::groups], axis=1)
        padded = np.zeros((len(hashes), -(-packed.shape[1] // 8) * 8), np.uint8)
        padded[:, : packed.shape[1]] = packed
        words = padded.view(np.uint64)
        key = words[:, 0].copy()
        for word in words.T[1:]:
            # A product with an odd number loses nothing; equal bits stay equal.
            key = key * np.uint64(0x9E3779B97F4A7C15) ^ word
        keys.append(key)
    return keys


def _sharing(key: NDArray[np.uint64], hashes: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """The near pairs among hashes of equal keys, i < j."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    # Places whose key is that of the place `step` further on; they only grow fewer.
    places = np.arange(len(key))
    found = []
    step = 1
    while len(places := places[places < len(key) - step]):
        places = places[key[places] == key[places + step]]
        first, second = order[places], order[places + step]
        near = _distance(hashes, first, second) <= limit
        found.append(np.column_stack([first[near], second[near]]))
        step += 1
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _distance(
    hashes: NDArray[np.uint64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    differ = (hashes[first] ^ hashes[second]).view(np.uint8).reshape(len(first), BITS // 8)
    total: NDArray[np.int64] = _ONES[differ].sum(axis=1, dtype=np.int64)
    return total
