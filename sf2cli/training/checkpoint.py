"""Checkpoints of a run: whole or absent, and of any world size.

    checkpoints/step-00000200/{state.json, backbone.safetensors, momentum.safetensors, head/}
    checkpoints/latest            the name of the newest whole one

A checkpoint is written into a hidden folder beside its place and renamed when every rank is done;
`latest` moves last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file, sync, write_through
from sf2cli.heads.state import MANIFEST, load_head, save_head
from sf2cli.training.backbone_state import gather_momentum, gather_weights, restore_momentum
from sf2cli.training.engine import TrainingEngine

_LATEST = "latest"


class RunState(BaseModel):
    """state.json: where a run stands. `manifest_sha256` ties it to the packed set it saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["sf2-checkpoint"] = "sf2-checkpoint"
    version: Literal[1] = 1
    step: int
    world_size: int
    manifest_sha256: str


def save_checkpoint(
    folder: Path, engine: TrainingEngine, state: RunState, identities: list[str]
) -> Path:
    """Write checkpoint `state.step` into `folder`; collective. Returns its path.

    Raises:
        Sf2Error: the disk is full or not writable, or a weight is not finite; nothing but this
            checkpoint is lost. Raised on every rank.
    """
    final = folder / f"step-{state.step:08d}"
    partial = folder / f".{final.name}-partial"
    weights = gather_weights(engine.deepspeed)
    momentum = gather_momentum(engine.deepspeed)
    wrong = [name for name, value in weights.items() if not value.isfinite().all()]
    if wrong:
        raise Sf2Error(
            f"checkpoint {final}: not saved, for {wrong[0]} is not finite",
            "Lower optimizer.lr or head.loss_weight; an earlier checkpoint goes on with --resume.",
        )
    first = dist.get_rank() == 0
    try:
        with _all_or_none(final, engine):
            if first:
                folder.mkdir(parents=True, exist_ok=True)
                for stale in folder.glob(".*-partial"):
                    shutil.rmtree(stale)
                (partial / "head").mkdir(parents=True)
        save_head(partial / "head", engine.head, engine.head_optimizer, identities)
        with _all_or_none(final, engine):
            if first:
                save_file(weights, partial / "backbone.safetensors")
                save_file(momentum, partial / "momentum.safetensors")
                write_through(partial / "state.json", state.model_dump_json(indent=2))
                # After a power cut `latest` must not name an empty checkpoint.
                for path in (*partial.glob("*.safetensors"), partial):
                    sync(path)
                if final.exists():
                    shutil.rmtree(final)
                partial.rename(final)
                sync(folder)
                replace_file(folder / _LATEST, final.name)
    except Sf2Error:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


@contextmanager
def _all_or_none(final: Path, engine: TrainingEngine) -> Iterator[None]:
    """Run the block on every rank and wait for all; where one cannot write, all raise."""
    failure = None
    try:
        yield
    except (OSError, SafetensorError) as problem:
        failure = Sf2Error(
            f"checkpoint {final}: cannot be written ({problem})",
            "Free disk space, then go on from the last whole checkpoint with --resume.",
        )
    engine.head.ranks.raise_together(failure)


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that `latest` names, or None where no whole one was ever written.

    Raises:
        Sf2Error: `latest` names a folder that is not there.
    """
    try:
        name = (folder / _LATEST).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    path = folder / name
    if not path.is_dir():
        raise Sf2Error(
            f"{folder / _LATEST} names {name}, which is not there",
            "Write the name of a checkpoint folder beside it into the file.",
        )
    return path


def find_checkpoint(folder: Path, what: str) -> Path:
    """The checkpoint `folder`, or the latest of the run `folder`.

    Args:
        what: the option or field that named it, for the message.

    Raises:
        Sf2Error: neither.
    """
    if (folder / "head" / MANIFEST).exists():
        return folder
    found = latest_checkpoint(folder / "checkpoints")
    if found is None:
        raise Sf2Error(
            f"{what} {folder}: neither a run with a checkpoint nor a checkpoint",
            "Name a run folder, or a folder in its checkpoints/.",
        )
    return found


def read_state(checkpoint: Path) -> RunState:
    """The state.json of a checkpoint.

    Raises:
        Sf2Error: missing, not JSON, or not an sf2 checkpoint of this version.
    """
    path = checkpoint / "state.json"
    try:
        return RunState.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as failure:
        reason = " ".join(str(failure).split())
        raise Sf2Error(f"{path}: not the state of an sf2 checkpoint ({reason})") from None


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The backbone's tensors, to be loaded before the engine is built."""
    return _read(checkpoint / "backbone.safetensors")


def restore_optimizers_and_head(checkpoint: Path, engine: TrainingEngine) -> None:
    """Head, its momentum and the backbone's momentum into an engine of any world size."""
    restore_momentum(engine.deepspeed, _read(checkpoint / "momentum.safetensors"))
    load_head(checkpoint / "head", engine.head, engine.head_optimizer)


def _read(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure})") from None
