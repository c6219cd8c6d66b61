"""A head on disk: a range-readable file a rank and a manifest, loadable on any number of ranks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sf2cli.errors import Sf2Error
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead

_MANIFEST = "head.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeadFile(_Frozen):
    """Rows [start, stop) of weight and momentum."""

    file: str
    start: int
    stop: int
    bytes: int
    sha256: str


class HeadManifest(_Frozen):
    """The content of head.json."""

    format: Literal["sf2-head"] = "sf2-head"
    version: Literal[1] = 1
    num_classes: int
    embedding_size: int
    dtype: str
    bias: float
    bias_momentum: float
    files: list[HeadFile]
    identities: list[str]


def save_head(folder: Path, head: ShardedHead, optimizer: HeadSGD, identities: list[str]) -> None:
    """Write this rank's rows into `folder`, and on rank 0 head.json after them; collective."""
    path = folder / f"head-{head.start:010d}-{head.stop:010d}-rank{head.rank:05d}.safetensors"
    rows = {"weight": head.weight.detach().cpu(), "momentum": optimizer.weight_momentum.cpu()}
    save_file(rows, path)
    mine = HeadFile(
        file=path.name,
        start=head.start,
        stop=head.stop,
        bytes=path.stat().st_size,
        sha256=_sha256(path),
    )
    files: list[Any] = [mine]
    if head.partition.world_size > 1:
        files = [None] * head.partition.world_size
        dist.all_gather_object(files, mine)
    if head.rank == 0:
        manifest = HeadManifest(
            num_classes=head.partition.num_classes,
            embedding_size=head.weight.shape[1],
            dtype=str(head.weight.dtype),
            bias=head.bias.item(),
            bias_momentum=optimizer.bias_momentum.item(),
            files=files,
            identities=identities,
        )
        (folder / _MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")


@torch.no_grad()
def load_head(folder: Path, head: ShardedHead, optimizer: HeadSGD) -> None:
    """Fill this rank's rows from a head saved on any number of ranks, reading only its ranges.

    Raises:
        Sf2Error: another K, d or type; a file missing, short or changed; rows that no file holds.
    """
    manifest = _read_manifest(folder)
    _expect(folder, "num_classes", manifest.num_classes, head.partition.num_classes)
    _expect(folder, "embedding_size", manifest.embedding_size, head.weight.shape[1])
    _expect(folder, "dtype", manifest.dtype, str(head.weight.dtype))
    filled = 0
    for part in manifest.files:
        low, high = max(part.start, head.start), min(part.stop, head.stop)
        if low < high:
            _check(folder / part.file, part)
            here, there = (
                slice(low - head.start, high - head.start),
                slice(low - part.start, high - part.start),
            )
            _read_rows(folder / part.file, here, there, head, optimizer)
            filled += high - low
    if filled != head.stop - head.start:
        raise Sf2Error(
            f"{folder / _MANIFEST}: its files hold {filled} of the rows {head.start} to"
            f" {head.stop - 1}",
            "Go on from another checkpoint.",
        )
    head.bias.fill_(manifest.bias)
    optimizer.bias_momentum.fill_(manifest.bias_momentum)


def _read_rows(
    path: Path, here: slice, there: slice, head: ShardedHead, optimizer: HeadSGD
) -> None:
    try:
        with safe_open(path, framework="pt") as stream:
            head.weight[here] = stream.get_slice("weight")[there].to(head.weight)
            momentum = stream.get_slice("momentum")[there]
            optimizer.weight_momentum[here] = momentum.to(head.weight)
    except SafetensorError as failure:
        raise Sf2Error(f"{path}: not a head's rows ({failure})") from None


def _read_manifest(folder: Path) -> HeadManifest:
    path = folder / _MANIFEST
    try:
        return HeadManifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as failure:
        reason = " ".join(str(failure).split())
        raise Sf2Error(f"{path}: not the manifest of a saved head ({reason})") from None


def _expect(folder: Path, field: str, found: object, expected: object) -> None:
    if found != expected:
        raise Sf2Error(
            f"{folder / _MANIFEST}: {field} is {found}, but this run's head has {expected}",
            "Load it with the recipe and the packed set it was trained with.",
        )


def _check(path: Path, part: HeadFile) -> None:
    if not path.exists():
        raise Sf2Error(f"{path}: missing", "Go on from another checkpoint.")
    if path.stat().st_size != part.bytes:
        raise Sf2Error(
            f"{path}: {path.stat().st_size} bytes, expected {part.bytes}",
            "The file is cut short or foreign; go on from another checkpoint.",
        )
    if _sha256(path) != part.sha256:
        raise Sf2Error(f"{path}: its hash is not the one in {_MANIFEST}", "Use another checkpoint.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()
