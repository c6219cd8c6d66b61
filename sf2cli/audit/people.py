"""Identities and images by their looks: what a trained model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.audit.finding import Entry, Finding, first_image
from sf2cli.audit.likeness import (
    Means,
    embeddings,
    like_pairs,
    means,
    one_person_threshold,
    self_likeness,
    strangers,
)
from sf2cli.data.packed import PackedSet


@dataclass(frozen=True)
class Looks:
    """A set as a model sees it: unit vectors float32 [n, d], and their identities' means."""

    packed: PackedSet
    vectors: NDArray[np.float32]
    means: Means


def looks(packed: PackedSet, model: Path) -> Looks:
    """Embed a set.

    Raises:
        Sf2Error: no model, or images that cannot be read.
    """
    vectors = embeddings(packed, model)
    return Looks(packed, vectors, means(vectors, packed.labels, packed.manifest.num_identities))


def threshold_of(seen: Looks) -> float:
    """The cosine of two means from which their identities pass for one person."""
    labels, identities = seen.packed.labels, seen.packed.manifest.num_identities
    return one_person_threshold(self_likeness(seen.vectors, labels, identities))


def one_person(seen: Looks, threshold: float) -> tuple[Finding, list[list[int]]]:
    """Pairs of identities that look like one person; and what they come to as groups of labels."""
    pairs, cosines = like_pairs(seen.means.units, None, threshold)
    finding = Finding(
        "one_person",
        "Pairs of identities that look like one person",
        f"The cosine of their mean embeddings is {threshold:.3f} or more. merge.txt has them:"
        " look at the pictures, and delete the lines of those who only resemble each other.",
        [
            likeness_entry(seen, a, seen, b, cosine)
            for (a, b), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True)
        ],
    )
    return finding, _groups(pairs.tolist(), seen.packed.manifest.samples_per_identity)


def not_themselves(seen: Looks, owners: NDArray[np.int64]) -> Finding:
    """Images that look more like another identity than like their own."""
    packed, names = seen.packed, seen.packed.manifest.identities
    listed = [
        one
        for one in strangers(seen.vectors, packed.labels, seen.means)
        if owners[one.image] != owners[first_image(packed, one.identity)]
    ]
    return Finding(
        "strangers",
        "Images that do not look like their identity",
        "Another identity's mean embedding is closer than the mean of the identity's other"
        " images; that other one is shown beside. The list drops them.",
        [
            Entry(
                {
                    "image": packed.source(one.image),
                    "cosine": round(one.own, 4),
                    "looks_like": names[one.identity],
                    "cosine_to_it": round(one.other, 4),
                },
                f"{one.own:.3f} to its own, {one.other:.3f} to {names[one.identity]}",
                ((packed, one.image), (packed, first_image(packed, one.identity))),
            )
            for one in listed
        ],
        [packed.source(one.image) for one in listed],
    )


def likeness_entry(seen: Looks, a: int, other: Looks, b: int, cosine: float) -> Entry:
    """Two identities that look alike, by two images each."""
    names = [seen.packed.manifest.identities[a], other.packed.manifest.identities[b]]
    return Entry(
        {"identities": names, "cosine": round(cosine, 4)},
        f"{names[0]} and {names[1]}: cosine {cosine:.3f}",
        (*_two(seen.packed, a), *_two(other.packed, b)),
    )


def _two(packed: PackedSet, label: int) -> list[tuple[PackedSet, int]]:
    first = first_image(packed, label)
    count = min(2, packed.manifest.samples_per_identity[label])
    return [(packed, first + k) for k in range(count)]


def _groups(pairs: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
    """Labels that pairs join; in a group the one with the most images comes first."""
    group: dict[int, list[int]] = {}
    for a, b in pairs:
        one, two = group.setdefault(a, [a]), group.setdefault(b, [b])
        if one is not two:
            one += two
            for label in two:
                group[label] = one
    groups = {
        id(one): sorted(one, key=lambda label: (-counts[label], label)) for one in group.values()
    }
    return sorted(groups.values())
