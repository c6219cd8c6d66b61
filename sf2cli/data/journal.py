"""What of a packing is finished, so that the next one need not do it again.

A line of JSON about the packing, then one for each finished shard: what that shard adds to the
set. A line is written when all that it tells of is on the disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from sf2cli.data.manifest import Shard
from sf2cli.errors import Sf2Error
from sf2cli.files import write_through

JOURNAL_NAME = "journal.jsonl"


class Skipped(NamedTuple):
    """An image that could not be read: its row, its name, and why."""

    row: int
    source: str
    reason: str


class Dropped(NamedTuple):
    """An identity with too few good images: its first row, its name, and how many it has."""

    row: int
    identity: str
    images: int


class FinishedShard(BaseModel):
    """What a shard adds.

    Args:
        shard: the shard.
        row: the first image of the source, in the packing's order, that is not settled by it.
        identities: who is in it, with the number of images; the first may go on from the shard
            before it.
        skipped: images before `row` that could not be read.
        dropped: identities before `row` with too few images.
        sources_bytes: length of sources.txt after it.
        sizes: up to two of the (height, width) that its images have.
        all_grey: whether all its images are grey.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: Shard
    row: int
    identities: list[tuple[str, int]]
    skipped: list[Skipped]
    dropped: list[Dropped]
    sources_bytes: int
    sizes: list[tuple[int, int]]
    all_grey: bool


class Tally:
    """What the finished shards of a set hold together."""

    def __init__(self) -> None:
        self.shards: list[Shard] = []
        self.identities: list[str] = []
        self.counts: list[int] = []
        self.skipped: list[Skipped] = []
        self.dropped: list[Dropped] = []
        self.sizes: set[tuple[int, int]] = set()
        self.all_grey = True
        self.sources_bytes = self.row = 0

    def add(self, done: FinishedShard) -> None:
        """Take in the next shard."""
        self.shards.append(done.shard)
        for name, images in done.identities:
            if self.identities and self.identities[-1] == name:
                self.counts[-1] += images
            else:
                self.identities.append(name)
                self.counts.append(images)
        self.skipped += done.skipped
        self.dropped += done.dropped
        # Whether there is more than one is all that is ever asked.
        self.sizes = set(sorted(self.sizes | set(done.sizes))[:2])
        self.all_grey = self.all_grey and done.all_grey
        self.sources_bytes = done.sources_bytes
        self.row = done.row

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)


class Journal:
    """The journal in `folder`; `finished` is what it holds.

    Args:
        folder: where the file is, or will be.
        packing: what must be the same for another packing to go on with it, and `started_ns`, when
            it began, in nanoseconds since 1970; JSON values.

    Raises:
        Sf2Error: it is of another packing.
    """

    def __init__(self, folder: Path, packing: dict[str, Any]) -> None:
        self._path = folder / JOURNAL_NAME
        self.started_ns = int(packing["started_ns"])
        self.finished = self._read(packing)
        if self.finished:
            # Without a line that a kill cut short.
            os.truncate(self._path, self._whole_bytes)
        else:
            write_through(self._path, json.dumps(packing) + "\n")
        self._stream = self._path.open("ab")

    def check_shards(self, folder: Path) -> None:
        """Compare the finished shards' lengths with those of the files in `folder`.

        Raises:
            Sf2Error: one is gone or differs.
        """
        for done in self.finished:
            path = folder / done.shard.file
            if not path.is_file() or path.stat().st_size != done.shard.bytes:
                raise Sf2Error(
                    f"{path} is missing or has another length than when it was finished",
                    "Begin anew with --restart.",
                )

    def append(self, shard: FinishedShard) -> None:
        """Write what a shard adds, through to the disk.

        Raises:
            OSError: the disk is full.
        """
        self._stream.write(shard.model_dump_json().encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.finished.append(shard)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self, packing: dict[str, Any]) -> list[FinishedShard]:
        try:
            *lines, _ = self._path.read_bytes().split(b"\n")
            first, shards = json.loads(lines[0]), map(FinishedShard.model_validate_json, lines[1:])
            finished = list(shards)
        except (FileNotFoundError, IndexError):
            return []
        except (ValidationError, ValueError):
            raise Sf2Error(
                f"{self._path}: not the journal of a packing", "Begin anew with --restart."
            ) from None
        self._whole_bytes = sum(len(line) + 1 for line in lines)
        if finished:
            self._compare(first, packing)
            self.started_ns = int(first["started_ns"])
        return finished

    def _compare(self, first: dict[str, Any], packing: dict[str, Any]) -> None:
        for name in (name for name in packing if name != "started_ns"):
            if first.get(name) != packing[name]:
                raise Sf2Error(
                    f"{self._path.parent} holds an interrupted packing with"
                    f" {_difference(name, first.get(name), packing[name])}",
                    "Give the command as it was, to go on with it, or --restart to begin anew.",
                )


def _difference(name: str, before: Any, now: Any) -> str:
    """What is another than it was in the field `name` of a packing, in words."""
    if name == "split":
        keys = ("--holdout", "--holdout-seed")
        before, now = (dict(zip(keys, said or (), strict=False)) for said in (before, now))
    if isinstance(before, dict) and isinstance(now, dict):
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        parts = [_against(f"{key} {_said(before.get(key))}", now.get(key)) for key in changed]
        return f"another {name.removesuffix('s')}: {'; '.join(parts)}"
    if name == "list of images":
        # "images of identities, digest"
        before, now = (str(said).partition(",")[0] for said in (before, now))
        if before == now:
            return f"another {name}: as many, {now} identities, but not the same"
        before, now = f"{before} identities", f"{now} identities"
    return f"another {name}: {_against(_said(before), now)}"


def _against(before: str, now: Any) -> str:
    return f"{before}, where this one has {_said(now)}"


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def progress_in(folder: Path) -> str:
    """What the journal in `folder` says is finished, in words; empty if nothing is."""
    try:
        *lines, _ = (folder / JOURNAL_NAME).read_bytes().split(b"\n")
        shards = [json.loads(line)["shard"] for line in lines[1:]]
        images = sum(int(shard["samples"]) for shard in shards)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"{len(shards)} shards with {images} images" if shards else ""
