"""Images that are there more than once, and odd ones: what needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sf2cli.audit.finding import Entry, Finding, identity
from sf2cli.audit.fingerprint import BITS, NEAR_BITS, near_pairs
from sf2cli.audit.scan import Scan, equal_groups
from sf2cli.data.packed import PackedSet

_HASH = f"They differ in at most {NEAR_BITS} of the {BITS} bits of a difference hash"


def duplicates(packed: PackedSet, seen: Scan, owners: NDArray[np.int64]) -> list[Finding]:
    """Images of the same bytes, within an identity and across.

    Args:
        packed: the set.
        seen: of its images.
        owners: a number for each image's identity, the same for those to be merged; int64 [n].
    """
    groups = equal_groups(seen.digests)
    within = [group for group in groups if len(set(owners[group].tolist())) == 1]
    across = [group for group in groups if len(set(owners[group].tolist())) > 1]
    return [
        Finding(
            "duplicates_within",
            "One image several times in an identity",
            "The files are equal byte for byte. The list keeps the first of them.",
            [_group(packed, group) for group in within],
            [packed.source(int(i)) for group in within for i in group[1:]],
        ),
        Finding(
            "duplicates_across",
            "One image in several identities",
            "The files are equal byte for byte, so that at most one of the labels is right. The"
            " list keeps none of them.",
            [_group(packed, group) for group in across],
            [packed.source(int(i)) for group in across for i in group],
        ),
    ]


def near_duplicates(packed: PackedSet, seen: Scan, owners: NDArray[np.int64]) -> list[Finding]:
    """Images that are nearly the same, within an identity and across; equal files count once."""
    chosen = distinct(seen)
    pairs, bits = near_pairs(seen.prints[chosen])
    pairs = chosen[pairs]
    order = np.argsort(bits, kind="stable")
    pairs, bits = pairs[order], bits[order]
    same = owners[pairs[:, 0]] == owners[pairs[:, 1]]
    return [
        Finding(
            name,
            title,
            f"{_HASH}: one picture stored twice, or two of a burst. No list drops them.",
            [
                near_entry(packed, i, packed, j, n)
                for (i, j), n in zip(pairs[kind].tolist(), bits[kind].tolist(), strict=True)
            ],
        )
        for name, title, kind in (
            ("near_within", "Nearly one image, twice in an identity", same),
            ("near_across", "Nearly one image, in two identities", ~same),
        )
    ]


def odd_ones(packed: PackedSet, seen: Scan, min_images: int) -> list[Finding]:
    """Images that cannot be read or have another size, and identities with few images."""
    counts = packed.manifest.samples_per_identity
    few = [k for k, count in enumerate(counts) if count < min_images]
    readable = np.array([i not in seen.unreadable for i in range(len(packed))])
    sizes, votes = np.unique(seen.sizes[readable], axis=0, return_counts=True)
    usual = sizes[votes.argmax()] if len(sizes) else np.zeros(2, np.int64)
    odd = np.flatnonzero((seen.sizes != usual).any(axis=1) & readable)
    return [
        Finding(
            "unreadable",
            "Images that cannot be read",
            "The decoder refused them. The list drops them.",
            [
                Entry({"image": packed.source(i), "reason": why}, f"{packed.source(i)}: {why}")
                for i, why in seen.unreadable.items()
            ],
            [packed.source(i) for i in seen.unreadable],
        ),
        Finding(
            "few_images",
            f"Identities with fewer than {min_images} images",
            "They teach a model little; `sf2 pack --min-images` drops them.",
            [
                Entry(
                    {"identity": packed.manifest.identities[k], "images": counts[k]},
                    f"{packed.manifest.identities[k]}: {counts[k]}",
                )
                for k in few
            ],
        ),
        Finding(
            "odd_size",
            "Images of another size",
            f"Most are {usual[0]} x {usual[1]} (height x width). `sf2 pack --size` makes them"
            " equal; an image that was not aligned is often among them.",
            [_odd(packed, i, seen.sizes[i]) for i in odd.tolist()],
        ),
    ]


def distinct(seen: Scan) -> NDArray[np.int64]:
    """The readable images, of equal files the first; int64, ascending."""
    chosen = np.ones(len(seen.sizes), np.bool_)
    chosen[list(seen.unreadable)] = False
    for group in equal_groups(seen.digests):
        chosen[group[1:]] = False
    return np.flatnonzero(chosen)


def near_entry(packed: PackedSet, i: int, other: PackedSet, j: int, bits: int) -> Entry:
    """Two images that are nearly the same."""
    return Entry(
        {"images": [packed.source(i), other.source(j)], "bits": bits},
        f"{bits} of {BITS} bits differ",
        ((packed, i), (other, j)),
    )


def _group(packed: PackedSet, group: NDArray[np.int64]) -> Entry:
    images: Sequence[int] = group.tolist()
    names = list(dict.fromkeys(identity(packed, i) for i in images))
    return Entry(
        {"identities": names, "images": [packed.source(i) for i in images]},
        f"{len(images)} times: {', '.join(names)}",
        tuple((packed, i) for i in images),
    )


def _odd(packed: PackedSet, i: int, size: NDArray[np.int64]) -> Entry:
    height, width = size.tolist()
    return Entry(
        {"image": packed.source(i), "size": [height, width]},
        f"{height} x {width}",
        ((packed, i),),
    )
