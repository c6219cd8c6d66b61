"""All pairs of a held-out packed set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.many_pairs import ManyPairs
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.files import file_sha256

# The pairs and their scores are kept in memory, about 45 bytes a pair: 2.3 GB at this many images.
# Larger sets are counted block by block.
MAX_IMAGES = 10_000


def open_all_pairs(folder: Path) -> PairSet | ManyPairs:
    """Every pair of images i < j of the packed set in `folder`; counted above MAX_IMAGES images.

    Raises:
        Sf2Error: an unreadable set, or a set without genuine or without impostor pairs.
    """
    packed = PackedSet.open(folder)
    n = len(packed)
    if n > MAX_IMAGES:
        return ManyPairs.of(packed)
    numbers = np.arange(n, dtype=np.int32)
    first = np.repeat(numbers, n - 1 - numbers)
    second = np.concatenate([numbers[i + 1 :] for i in range(n)])
    labels = packed.labels
    source = packed.manifest.made_by.get("source")
    return PairSet(
        name=packed.manifest.name,
        protocol="all pairs",
        source=folder,
        data_sha256=file_sha256(folder / MANIFEST_NAME),
        hashed="manifest.json, which holds the shards' hashes",
        faces=packed,
        first=first,
        second=second,
        issame=labels[first] == labels[second],
        all_pairs=True,
        # The pairs come sorted by identity: contiguous folds would hold other identities each.
        folds="stratified",
        identities=packed.manifest.num_identities,
        labels=labels,
        credit=source.get("credit") if isinstance(source, dict) else None,
    )
