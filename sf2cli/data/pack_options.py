"""What `sf2 pack` is told, and what it reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sf2cli.data.encode import Colour


@dataclass(frozen=True)
class PackOptions:
    """How to pack; the defaults keep every image as it is.

    Args:
        size: resize to this edge in pixels.
        colour: convert to these colours.
        holdout: this many identities go to a second, identity-disjoint set.
        holdout_seed: draw them; None takes the last ones.
        min_images: identities with fewer good images are dropped.
        on_bad: what cannot be read is skipped and listed, or stops the packing.
        shard_bytes: size that no shard grows over.
        overwrite: replace packed sets that are there.
        restart: begin anew where an interrupted packing left something to go on with.
        workers: processes that check the images; with 1 this one does. No byte depends on it.
    """

    size: int | None = None
    colour: Colour | None = None
    holdout: int | None = None
    holdout_seed: int | None = None
    min_images: int = 1
    on_bad: Literal["fail", "skip"] = "skip"
    shard_bytes: int = 256_000_000
    overwrite: bool = False
    restart: bool = False
    workers: int = 1

    def recorded(self) -> dict[str, Any]:
        """What the manifest says of them; the split is told apart."""
        unlisted = ("overwrite", "holdout", "holdout_seed", "restart", "workers")
        return {name: value for name, value in asdict(self).items() if name not in unlisted}

    def as_flags(self) -> dict[str, Any]:
        """The same as a user types them."""
        said = self.recorded()
        said["shard_size"] = said.pop("shard_bytes") / 1e6
        return {f"--{name.replace('_', '-')}": value for name, value in said.items()}


@dataclass(frozen=True)
class PackedFolder:
    """One set that was written, or would be."""

    folder: str
    identities: int
    images: int
    shards: int
    bytes: int


@dataclass
class PackReport:
    """What was packed and what was left out.

    `skipped` has {source, reason} for each unreadable image or part of the source, `dropped`
    {identity, images} for each identity with too few, `ignored_files` counts files that are no
    images.
    """

    sets: list[PackedFolder] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    dropped: list[dict[str, str | int]] = field(default_factory=list)
    ignored_files: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)
