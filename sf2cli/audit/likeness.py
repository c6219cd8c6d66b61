"""What a trained model sees: identities that are one person, images that are another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.open_embedder import open_embedder

_ROWS = 4096
# One identity in four is less like itself than two identities must be to pass for one person.
_UNLIKE_ITSELF = 0.25


def embeddings(packed: PackedSet, model: Path) -> NDArray[np.float32]:
    """Unit embeddings [n, d] of all images by the model in a model or run folder.

    Raises:
        Sf2Error: no model, or images that cannot be read.
    """
    return unit_rows(open_embedder(model).embed(packed, f"embed {packed.manifest.name}"))


@dataclass(frozen=True)
class Means:
    """The mean direction of each identity.

    Args:
        units: float32 [K, d], of unit length.
        sums: float32 [K, d], before that.
        counts: images, int64 [K].
    """

    units: NDArray[np.float32]
    sums: NDArray[np.float32]
    counts: NDArray[np.int64]


def means(vectors: NDArray[np.float32], labels: NDArray[np.int64], identities: int) -> Means:
    """The mean direction of the vectors [n, d] of each of `identities` labels."""
    sums = np.zeros((identities, vectors.shape[1]), np.float32)
    np.add.at(sums, labels, vectors)
    return Means(unit(sums), sums, np.bincount(labels, minlength=identities))


def self_likeness(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], identities: int
) -> NDArray[np.float32]:
    """How much like itself each identity is: the cosine between the means of every other image.

    Returns:
        float32 [identities with two images or more].
    """
    order = np.argsort(labels, kind="stable")
    ranks = np.empty(len(labels), np.int64)
    starts = np.searchsorted(labels[order], labels[order])
    ranks[order] = np.arange(len(labels)) - starts
    halves = [
        means(vectors[ranks % 2 == k], labels[ranks % 2 == k], identities).units for k in (0, 1)
    ]
    several = np.bincount(labels, minlength=identities) > 1
    cosines: NDArray[np.float32] = (halves[0] * halves[1]).sum(axis=1)[several]
    return cosines


def one_person_threshold(likeness: NDArray[np.float32]) -> float:
    """The cosine from which two identities pass for one person: as most are to themselves."""
    return float(np.quantile(likeness, _UNLIKE_ITSELF)) if len(likeness) else 1.0


def like_pairs(
    units: NDArray[np.float32], others: NDArray[np.float32] | None, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of rows with a cosine of `threshold` or more, the most alike first.

    Args:
        units: [K, d], of unit length.
        others: [L, d]; None takes pairs i < j of `units`.
        threshold: cosine.

    Returns:
        int64 [pairs, 2] and their cosines.
    """
    found, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    right = units if others is None else others
    for start in _starts(len(units), "compare identities"):
        block = units[start : start + _ROWS] @ right.T
        i, j = np.nonzero(block >= threshold)
        chosen = i + start < j if others is None else np.ones(len(i), np.bool_)
        found.append(np.column_stack([i[chosen] + start, j[chosen]]))
        cosines.append(block[i[chosen], j[chosen]])
    pairs, values = np.concatenate(found), np.concatenate(cosines)
    order = np.argsort(-values, kind="stable")
    return pairs[order], values[order]


@dataclass(frozen=True)
class Stranger:
    """An image that looks more like another identity than like the rest of its own.

    `own` is its cosine to the mean of the others of its identity, `other` to that of `identity`.
    """

    image: int
    own: float
    identity: int
    other: float


def strangers(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], found: Means
) -> list[Stranger]:
    """The images [n, d] nearer to another identity's mean than to the rest of their own.

    An identity's only image has no rest to be like. The widest difference comes first.
    """
    listed: list[Stranger] = []
    for start in _starts(len(vectors), "compare images"):
        block, own_labels = vectors[start : start + _ROWS], labels[start : start + _ROWS]
        rows = np.arange(len(block))
        own = (block * unit(found.sums[own_labels] - block)).sum(axis=1)
        cosines = block @ found.units.T
        cosines[rows, own_labels] = -np.inf
        nearest = cosines.argmax(axis=1)
        other = cosines[rows, nearest]
        for row in np.flatnonzero((other > own) & (found.counts[own_labels] > 1)).tolist():
            listed.append(
                Stranger(start + row, float(own[row]), int(nearest[row]), float(other[row]))
            )
    return sorted(listed, key=lambda one: (one.own - one.other, one.image))


def _starts(rows: int, description: str) -> Iterator[int]:
    with console.progress(description, rows, unit="rows") as line:
        for start in range(0, rows, _ROWS):
            yield start
            line.advance(min(_ROWS, rows - start))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return scaled
