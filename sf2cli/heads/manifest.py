"""head.json: what a saved head is made of, and any range of its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from sf2cli.errors import DamagedError, why
from sf2cli.heads.shard_file import BLOCK_ROWS, RowLayout, read_rows
from sf2cli.heads.softmax import MarginSoftmax
from sf2cli.heads.sphereface2 import SphereFace2

# In this order: a softmax cannot be read from SphereFace2's fields.
Loss = Annotated[MarginSoftmax | SphereFace2, Field(union_mode="left_to_right")]

MANIFEST = "head.json"
VERSION: Literal[2] = 2
REMEDY = "Take the whole folder from where it was saved, or go on from another checkpoint."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowFile(_Frozen):
    """One file of rows: class ids [start, stop), its name, and each tensor's block hashes."""

    start: int = Field(ge=0)
    stop: int = Field(gt=0)
    file: str = Field(pattern=r"^[\w.-]+\.safetensors$")
    sha256: dict[str, list[str]]


class OptimizerSettings(_Frozen):
    """What the optimiser ran with when the head was saved."""

    lr: float
    momentum: float
    weight_decay: float
    steps: int = Field(ge=0)


class HeadManifest(_Frozen):
    """The content of head.json.

    `bias` and its momentum are SphereFace2's, `norms` (see `ShardedSoftmaxHead`) a softmax's.
    `identities` holds the name of every class id, or None.
    """

    format: Literal["sf2-head"] = "sf2-head"
    version: Literal[2] = VERSION
    num_classes: int = Field(gt=0)
    embedding_size: int = Field(gt=0)
    dtype: Literal["float32", "bfloat16", "float64"]
    block_rows: Literal[16384] = 16384
    files: list[RowFile]
    bias: float | None
    bias_momentum: float | None
    norms: tuple[float, float] | None
    loss: Loss
    optimizer: OptimizerSettings
    identities: list[str] | None

    @property
    def row_size(self) -> int:
        """Numbers a row: d, or as many for each sub-centre of a class."""
        centres = self.loss.sub_centres if isinstance(self.loss, MarginSoftmax) else 1
        return centres * self.embedding_size

    def layout(self, entry: RowFile) -> RowLayout:
        """How that file is laid out."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        rows = entry.stop - entry.start
        return RowLayout(tuple(entry.sha256), rows, self.row_size, dtype)


def read_head_manifest(folder: Path) -> HeadManifest:
    """The head.json of a saved head, its ranges and hashes complete.

    Raises:
        DamagedError: missing, not a head of this version, or ranges that do not make up the head.
    """
    path = folder / MANIFEST
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree.get("version") if isinstance(tree, dict) else None
        if version != VERSION:
            raise DamagedError(f"{path}: version {version}, this sf2 reads {VERSION}", REMEDY)
        manifest = HeadManifest.model_validate(tree)
    except FileNotFoundError:
        raise DamagedError(f"{path}: not there", REMEDY) from None
    except (OSError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise DamagedError(f"{path}: not a saved sf2 head ({reason})", REMEDY) from None
    reached = 0
    for entry in manifest.files:
        if entry.start != reached or entry.stop <= entry.start:
            raise DamagedError(f"{path}: {entry.file} does not follow on from id {reached}", REMEDY)
        reached = entry.stop
        blocks = -(-(entry.stop - entry.start) // BLOCK_ROWS)
        if any(len(hashes) != blocks for hashes in entry.sha256.values()):
            raise DamagedError(f"{path}: {entry.file} has not {blocks} hashes a tensor", REMEDY)
    if reached != manifest.num_classes:
        raise DamagedError(
            f"{path}: its files end at id {reached} of {manifest.num_classes}", REMEDY
        )
    return manifest


def check_files(folder: Path, manifest: HeadManifest) -> int:
    """The bytes of a head's files, each of which is there and of its size.

    Raises:
        DamagedError: one is not.
    """
    total = 0
    for entry in manifest.files:
        path, expected = folder / entry.file, manifest.layout(entry).size
        try:
            found = path.stat().st_size
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read ({error.strerror})", REMEDY) from None
        if found != expected:
            raise DamagedError(f"{path}: {found} bytes, {MANIFEST} makes it {expected}", REMEDY)
        total += found
    return total


def read_range(
    folder: Path, manifest: HeadManifest, first: int, into: Mapping[str, Tensor]
) -> None:
    """Read the rows of class ids `first` ... into each named tensor, all [n, row size] of one n.

    The blocks of rows that hold them are checked.

    Raises:
        DamagedError: a file is missing, short, changed or foreign.
    """
    stop = first + len(next(iter(into.values())))
    for entry in manifest.files:
        low, high = max(entry.start, first), min(entry.stop, stop)
        if low >= high:
            continue
        path = folder / entry.file
        if not entry.sha256.keys() >= into.keys():
            raise DamagedError(f"{path}: {MANIFEST} has no hashes of its momentum", REMEDY)
        part = {name: rows[low - first : high - first] for name, rows in into.items()}
        try:
            read_rows(path, manifest.layout(entry), entry.sha256, part, low - entry.start)
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read ({why(error)})", REMEDY) from None
        except DamagedError as error:
            raise DamagedError(error.message, REMEDY) from None
