"""What an audit finds, in one form for the JSON, the page and the lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sf2cli.data.packed import PackedSet


@dataclass(frozen=True)
class Entry:
    """One thing found.

    Args:
        content: for the JSON.
        caption: for the page.
        pictures: the set and number of each image that shows it.
    """

    content: dict[str, Any]
    caption: str
    pictures: tuple[tuple[PackedSet, int], ...] = ()


@dataclass(frozen=True)
class Finding:
    """All things of one kind that were found.

    Args:
        name: in the JSON.
        title: for people.
        meaning: what it is, and by which rule.
        entries: the worst first.
        drop: lines that drop.txt gets, for the reason in `title`.
    """

    name: str
    title: str
    meaning: str
    entries: Sequence[Entry]
    drop: Sequence[str] = field(default=())


def identity(packed: PackedSet, i: int) -> str:
    """The name of image `i`'s identity."""
    return packed.manifest.identities[packed.label(i)]


def first_image(packed: PackedSet, label: int) -> int:
    """The number of an identity's first image: a set is packed identity by identity."""
    return int(np.searchsorted(packed.labels, label))
