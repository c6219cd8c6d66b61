"""The curves of a report: one for each head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Curve = Sequence[tuple[float, float]]


def curves(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, Curve]:
    """The points (identities, value of `column`) of every head, where there is a value."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row[column] is not None:
            found.setdefault(row["head"], []).append((row["num_ids"], row[column]))
    return {head: sorted(points) for head, points in found.items()}
