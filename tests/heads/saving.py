"""A head saved as a checkpoint saves it."""

from __future__ import annotations

from pathlib import Path

from sf2cli.heads.state import Head, HeadOptimizer, take_head, write_head


def save_head(
    folder: Path, head: Head, optimizer: HeadOptimizer, identities: list[str] | None = None
) -> int:
    """Into `folder`, over the head's ranks; the bytes written."""
    return write_head(folder, take_head(head, optimizer, identities, copy=False), head.ranks)
