"""A head on disk: one file of rows a rank, and head.json that ties them together.

    head.json                                    sizes, ranges, hashes, bias, settings, names
    rows-000000000-000005000.safetensors         `weight` and `momentum` of those class ids

The ranges are those of the ranks that saved; any number of ranks loads them, each reading its own
rows. The caller makes the folder whole or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256, write_through
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.shard_file import read_rows, write_rows
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2

MANIFEST = "head.json"
_REMEDY = "Take the whole folder from where it was saved, or go on from another checkpoint."


class RowFile(BaseModel):
    """One file of rows: class ids [start, stop), its name, size in bytes and sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int = Field(ge=0)
    stop: int = Field(gt=0)
    file: str = Field(pattern=r"^[\w.-]+\.safetensors$")
    bytes: int
    sha256: str


class OptimizerSettings(BaseModel):
    """What HeadSGD ran with when the head was saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float
    momentum: float
    weight_decay: float
    steps: int = Field(ge=0)


class HeadManifest(BaseModel):
    """head.json. `identities` holds the name of every class id in order, or None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["sf2-head"] = "sf2-head"
    version: Literal[1] = 1
    num_classes: int = Field(gt=0)
    embedding_size: int = Field(gt=0)
    dtype: Literal["float32", "bfloat16", "float64"]
    files: list[RowFile]
    bias: float
    bias_momentum: float
    loss: SphereFace2
    optimizer: OptimizerSettings
    identities: list[str] | None


class _Outcome(NamedTuple):
    entry: dict[str, Any] | None
    failure: str | None


def save_head(
    folder: Path, head: ShardedHead, optimizer: HeadSGD, identities: list[str] | None = None
) -> None:
    """Write head and momentum into `folder`, which exists; collective, head.json last.

    Args:
        identities: the name of every class id in order, stored with the head; rank 0's are taken.

    Raises:
        ValueError: not as many names as classes.
        Sf2Error: a file cannot be written; raised on every rank.
    """
    if identities is not None and len(identities) != head.num_classes:
        raise ValueError(f"{len(identities)} identity names for {head.num_classes} classes")
    ranks = head.ranks
    outcomes = ranks.collect(_save_rows(folder, head, optimizer))
    files = []
    for outcome in outcomes:
        assert isinstance(outcome, _Outcome)
        if outcome.failure is not None:
            raise Sf2Error(outcome.failure, "Free disk space or choose another folder.")
        if outcome.entry is not None:
            files.append(RowFile(**outcome.entry))
    failure = None
    if ranks.rank == 0:
        manifest = HeadManifest(
            num_classes=head.num_classes,
            embedding_size=head.embedding_size,
            dtype=str(head.weight.dtype).removeprefix("torch."),
            files=files,
            bias=head.bias.item(),
            bias_momentum=optimizer.bias_momentum.item(),
            loss=head.hp,
            optimizer=OptimizerSettings(
                lr=optimizer.lr,
                momentum=optimizer.momentum,
                weight_decay=optimizer.weight_decay,
                steps=optimizer.steps,
            ),
            identities=identities,
        )
        failure = _write_manifest(folder / MANIFEST, manifest)
    ranks.raise_together(failure)


def _save_rows(folder: Path, head: ShardedHead, optimizer: HeadSGD) -> _Outcome:
    if head.start == head.stop:
        return _Outcome(None, None)
    path = folder / f"rows-{head.start:09d}-{head.stop:09d}.safetensors"
    try:
        digest = write_rows(path, _row_tensors(head, optimizer))
        size = path.stat().st_size
    except OSError as error:
        return _Outcome(None, f"{path}: cannot be written ({error.strerror})")
    entry = {"start": head.start, "stop": head.stop, "file": path.name}
    return _Outcome({**entry, "bytes": size, "sha256": digest}, None)


def _row_tensors(head: ShardedHead, optimizer: HeadSGD | None) -> dict[str, Tensor]:
    tensors = {"weight": head.weight.data}
    if optimizer is not None and optimizer.weight_momentum is not None:
        tensors["momentum"] = optimizer.weight_momentum
    return tensors


def _write_manifest(path: Path, manifest: HeadManifest) -> Sf2Error | None:
    try:
        write_through(path, manifest.model_dump_json(indent=1))
    except OSError as error:
        return Sf2Error(f"{path}: cannot be written ({error.strerror})", "Free disk space.")
    return None


def read_head_manifest(folder: Path) -> HeadManifest:
    """The head.json of a saved head, its ranges checked.

    Raises:
        Sf2Error: missing, not a head of this version, or ranges that do not make up the head.
    """
    path = folder / MANIFEST
    try:
        manifest = HeadManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Sf2Error(f"{path}: not there", _REMEDY) from None
    except (OSError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise Sf2Error(f"{path}: not a saved sf2 head ({reason})", _REMEDY) from None
    reached = 0
    for entry in manifest.files:
        if entry.start != reached or entry.stop <= entry.start:
            raise Sf2Error(f"{path}: {entry.file} does not follow on from id {reached}", _REMEDY)
        reached = entry.stop
    if reached != manifest.num_classes:
        raise Sf2Error(f"{path}: its files end at id {reached} of {manifest.num_classes}", _REMEDY)
    return manifest


def load_head(folder: Path, head: ShardedHead, optimizer: HeadSGD | None = None) -> HeadManifest:
    """Fill head, and momentum where an optimizer is given, on any number of ranks; collective.

    Each file is hashed once, by one of the ranks, before any rank reads its rows. Settings of
    `head` and `optimizer` stay as they are; the returned manifest holds those of the saved head.

    Raises:
        Sf2Error: a file is missing, short, changed or foreign, or the head has other sizes; raised
            on every rank. The head may then be filled in part.
    """
    manifest, failure = None, None
    try:
        manifest = read_head_manifest(folder)
        _check_sizes(folder / MANIFEST, manifest, head)
        _check_momentum(folder / MANIFEST, manifest, optimizer)
        check_files(folder, manifest, head.ranks)
    except Sf2Error as error:
        failure = error
    head.ranks.raise_together(failure)
    assert manifest is not None
    try:
        _load_rows(folder, manifest, head, optimizer)
    except Sf2Error as error:
        failure = error
    head.ranks.raise_together(failure)
    head.bias.data.fill_(manifest.bias)
    if optimizer is not None:
        optimizer.bias_momentum.fill_(manifest.bias_momentum)
        optimizer.steps = manifest.optimizer.steps
    return manifest


def _check_sizes(path: Path, manifest: HeadManifest, head: ShardedHead) -> None:
    for name in ("num_classes", "embedding_size"):
        saved, wanted = getattr(manifest, name), getattr(head, name)
        if saved != wanted:
            raise Sf2Error(
                f"{path}: {name} is {saved}, this run's head has {wanted}",
                "Use the training set and the recipe that the head was saved with.",
            )


def _check_momentum(path: Path, manifest: HeadManifest, optimizer: HeadSGD | None) -> None:
    wanted = optimizer is not None and optimizer.weight_momentum is not None
    if wanted and not manifest.optimizer.momentum:
        raise Sf2Error(
            f"{path}: saved without momentum, this run keeps it",
            "Set optimizer.momentum to 0, as in the run that saved it.",
        )


def _check_file(path: Path, entry: RowFile) -> None:
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            raise Sf2Error(f"{path}: {size} bytes, {MANIFEST} says {entry.bytes}", _REMEDY)
        if file_sha256(path) != entry.sha256:
            raise Sf2Error(f"{path}: not the file that {MANIFEST} names (sha256 differs)", _REMEDY)
    except OSError as error:
        raise Sf2Error(f"{path}: cannot be read ({error.strerror})", _REMEDY) from None


def _load_rows(
    folder: Path, manifest: HeadManifest, head: ShardedHead, optimizer: HeadSGD | None
) -> None:
    if head.rows:
        read_range(folder, manifest, head.start, _row_tensors(head, optimizer))


def check_files(folder: Path, manifest: HeadManifest, ranks: Ranks) -> None:
    """Compare this rank's part of the files with their hashes; every file is some rank's.

    Raises:
        Sf2Error: a file is missing, short or changed.
    """
    for entry in manifest.files[ranks.rank :: ranks.size]:
        _check_file(folder / entry.file, entry)


def read_range(
    folder: Path, manifest: HeadManifest, first: int, into: Mapping[str, Tensor]
) -> None:
    """Read the rows of class ids `first` ... into each named tensor, all [n, d] of one n.

    Raises:
        Sf2Error: a file is missing, short or foreign.
    """
    stop = first + len(next(iter(into.values())))
    for entry in manifest.files:
        low, high = max(entry.start, first), min(entry.stop, stop)
        if low >= high:
            continue
        part = {name: rows[low - first : high - first] for name, rows in into.items()}
        try:
            read_rows(folder / entry.file, part, low - entry.start)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise Sf2Error(
                f"{folder / entry.file}: not the rows {entry.start} to {entry.stop} of a head"
                f" ({error})",
                _REMEDY,
            ) from None
