"""What a protocol other than plain pairs found, ready for any report; and what such a protocol is.

A protocol brings its images and, given their embeddings, says in words, tables and curves what it
found. `report.finding_panel` shows every finding the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.kept import Kept
from sf2cli.evaluation.pair_set import Faces
from sf2cli.evaluation.report.panel import JsonObject, Table
from sf2cli.files import file_sha256


@dataclass(frozen=True)
class Origin:
    """Where a protocol came from: name, form, file or folder, and a hash of what `hashed` says."""

    name: str
    protocol: str
    source: Path
    data_sha256: str
    hashed: str
    credit: str | None = None

    @classmethod
    def of(cls, packed: PackedSet, protocol: str) -> Origin:
        """A protocol on a packed set."""
        source = packed.manifest.made_by.get("source")
        return cls(
            name=packed.manifest.name,
            protocol=protocol,
            source=packed.folder,
            data_sha256=file_sha256(packed.folder / MANIFEST_NAME),
            hashed="manifest.json, which holds the shards' hashes",
            credit=source.get("credit") if isinstance(source, dict) else None,
        )


@dataclass(frozen=True)
class Chart:
    """Curves by their names, each (x, y) ascending in x."""

    caption: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]]
    log_x: bool = False
    log_y: bool = False
    x_kind: Literal["percent", "whole", "plain"] = "percent"
    diagonal: bool = False


@dataclass(frozen=True)
class Finding:
    """One result.

    Args:
        origin: of the protocol.
        heading: over its part of the report.
        counts: on what the numbers were counted, in words.
        numbers: all of them, for report.json.
        table: the chief numbers, for the terminal and the page.
        details: further tables, for the page alone.
        charts: curves.
        notes: what cannot be given, was left out or must be read with care.
        definitions: what each word and number means.
        kept: what a comparison of runs needs; None where the numbers cannot be drawn again.
    """

    origin: Origin
    heading: str
    counts: str
    numbers: JsonObject
    table: Table
    details: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    kept: Kept | None = None


class Task(Protocol):
    """A protocol that turns the embeddings of its images into findings."""

    @property
    def origin(self) -> Origin: ...

    @property
    def faces(self) -> Faces: ...

    @property
    def baseline(self) -> bool:
        """Whether the raw pixels are to be measured as well."""
        ...

    def measure(self, rows: Mapping[str, NDArray[Any]]) -> list[Finding]:
        """What was found.

        Args:
            rows: by contender, one row an image: the model's embeddings float32 [n, d], not scaled
                to unit length, and, where `baseline` says so, pixels uint8.
        """
        ...


def share(value: float | None) -> str:
    """A share in percent; a dash where it could not be measured."""
    return "-" if value is None else f"{value:.2%}"


def thinned(values: NDArray[Any], points: int = 400) -> NDArray[Any]:
    """At most so many of `values` [n], first and last among them."""
    if len(values) <= points:
        return values
    picked: NDArray[Any] = values[np.linspace(0, len(values) - 1, points).round().astype(np.int64)]
    return picked
