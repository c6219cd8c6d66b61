"""Every image of a packed set read once: its hash, its fingerprint, its size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.audit.fingerprint import WORDS, fingerprint
from sf2cli.data.images import BadImageError, decode_image
from sf2cli.data.packed import PackedSet


@dataclass(frozen=True)
class Scan:
    """What one reading of the n images found.

    Args:
        digests: of the encoded bytes, uint64 [n, 2].
        prints: fingerprints, uint64 [n, 4]; zeros where unreadable.
        sizes: height and width, int64 [n, 2]; zeros where unreadable.
        unreadable: number and reason of each image that cannot be decoded.
    """

    digests: NDArray[np.uint64]
    prints: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    unreadable: dict[int, str]


def scan(packed: PackedSet) -> Scan:
    """Read and decode every image.

    Raises:
        Sf2Error: a shard cannot be read.
    """
    n = len(packed)
    digests = np.zeros((n, 2), np.uint64)
    prints, sizes = np.zeros((n, WORDS), np.uint64), np.zeros((n, 2), np.int64)
    unreadable: dict[int, str] = {}
    with console.progress(f"read {packed.manifest.name}", n, unit="images") as line:
        for i in range(n):
            data = packed.read(i)
            digests[i] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint64)
            try:
                pixels = decode_image(data, 1)
                sizes[i] = pixels.shape[:2]
                prints[i] = fingerprint(pixels)
            except BadImageError as failure:
                unreadable[i] = str(failure)
            line.advance()
    return Scan(digests, prints, sizes, unreadable)


def equal_groups(digests: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """The images that have a digest in common, a group for each, both in ascending order."""
    order = np.lexsort(digests.T)
    listed = digests[order]
    starts = np.flatnonzero(np.r_[True, (listed[1:] != listed[:-1]).any(axis=1)])
    groups = np.split(order, starts[1:])
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))
