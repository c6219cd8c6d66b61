"""Checkpoints of a run: taken at a step, written whole or not at all, read by any world size.

    checkpoints/step-00000200/state.json             the step, and the hashes of the files below
                              backbone.safetensors   weights; buffers as the mean over the ranks
                              momentum.safetensors   the backbone's optimiser
                              buffers.safetensors    each rank's floating buffers
                              head/                  see heads/state.py

There is no random state to keep: data order, augmentation, dropout, rounding and sampling are all
functions of the seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sf2cli.errors import DamagedError, Sf2Error
from sf2cli.files import write_through
from sf2cli.heads.manifest import MANIFEST
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.state import HeadSnapshot, load_head, take_head, write_head
from sf2cli.training import checkpoint_folder
from sf2cli.training.backbone_state import gather_momentum, gather_weights, restore_momentum
from sf2cli.training.buffers import gather_buffers, restore_buffers
from sf2cli.training.engine import TrainingEngine

STATE = "state.json"
BACKBONE, MOMENTUM, BUFFERS = (f"{n}.safetensors" for n in ("backbone", "momentum", "buffers"))
VERSION: Literal[2] = 2
_LOSS_SCALE = "loss_scale"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SavedFile(_Frozen):
    """A file's size and hash."""

    bytes: int
    sha256: str


class RunState(_Frozen):
    """state.json: where a run stands.

    `manifest_sha256` ties it to the packed set it saw. `products` is the type of the head's matrix
    products, which a run measures once: another type would be another run.
    """

    format: Literal["sf2-checkpoint"] = "sf2-checkpoint"
    version: Literal[2] = VERSION
    step: int
    world_size: int
    manifest_sha256: str
    products: Literal["float32", "bfloat16", "float64"]
    files: dict[str, SavedFile] = {}


@dataclass(frozen=True)
class Snapshot:
    """What this rank has to write: its part of the head, and on the first rank the backbone."""

    state: RunState
    files: dict[str, bytes]
    head: HeadSnapshot


@dataclass(frozen=True)
class Written:
    """A checkpoint on the disk: its place, its bytes over all ranks, and the seconds it took."""

    path: Path
    bytes: int
    seconds: float


def take_snapshot(
    engine: TrainingEngine,
    step: int,
    manifest_sha256: str,
    identities: list[str],
    *,
    copy: bool,
) -> Snapshot:
    """The run as it stands; collective.

    Args:
        copy: the head too, so that training may go on while it is written; this takes as much host
            memory again as the rank's rows and their momentum.

    Raises:
        Sf2Error: a weight of the backbone is not finite; raised on every rank.
    """
    weights = gather_weights(engine.deepspeed)
    wrong = [name for name, value in weights.items() if not value.isfinite().all()]
    if wrong:
        raise Sf2Error(
            f"checkpoint of step {step}: not saved, for {wrong[0]} is not finite",
            "Lower optimizer.lr or head.loss_weight; an earlier checkpoint goes on with --resume.",
        )
    momentum = {**gather_momentum(engine.deepspeed), _LOSS_SCALE: engine.loss_scale.state()}
    buffers = gather_buffers(engine.backbone)
    head = take_head(engine.head, engine.head_optimizer, identities, copy=copy)
    files = {}
    if engine.head.ranks.rank == 0:
        files = {BACKBONE: save(weights), MOMENTUM: save(momentum), BUFFERS: save(buffers)}
    state = RunState(
        step=step,
        world_size=engine.head.ranks.size,
        manifest_sha256=manifest_sha256,
        products=str(engine.head.products).removeprefix("torch."),
    )
    return Snapshot(state, files, head)


def write_checkpoint(
    folder: Path,
    snapshot: Snapshot,
    ranks: Ranks,
    keep: int,
    settle: Callable[[], None] | None = None,
) -> Written:
    """Write a snapshot into `folder`; collective over `ranks`.

    Args:
        keep: how many checkpoints to keep, this one included; older ones are removed.
        settle: called on the first rank before the checkpoint gets its name, to bring to the disk
            what belongs to the run's past; raises OSError where it cannot.

    Raises:
        Sf2Error: the disk is full or not writable; nothing but this checkpoint is lost. Raised on
            every rank.
    """
    began = time.perf_counter()
    first, step = ranks.rank == 0, snapshot.state.step
    final = checkpoint_folder.checkpoint_path(folder, step)
    partial: Path | None = None

    def on_first(act: Callable[[], Path]) -> Path:
        """The path that `act` returns on the first rank; where it fails all raise."""
        failure, path = None, None
        try:
            path = act() if first else None
        except OSError as problem:
            failure = Sf2Error(
                f"checkpoint {final}: cannot be written ({problem.strerror})",
                "Free disk space, then go on from the last whole checkpoint with --resume.",
            )
        ranks.raise_together(failure)
        agreed = ranks.agree(path)
        assert agreed is not None
        return agreed

    def begin() -> Path:
        made = checkpoint_folder.begin(folder, step)
        (made / "head").mkdir()
        return made

    def finish() -> Path:
        assert partial is not None
        saved = {name: _write(partial / name, data) for name, data in snapshot.files.items()}
        state = snapshot.state.model_copy(update={"files": saved})
        write_through(partial / STATE, state.model_dump_json(indent=2))
        if settle is not None:
            settle()
        published = checkpoint_folder.publish(partial, folder, step)
        checkpoint_folder.prune(folder, step, keep)
        return published

    try:
        partial = on_first(begin)
        head_bytes = write_head(partial / "head", snapshot.head, ranks)
        path = on_first(finish)
    except Sf2Error:
        if first and partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    own = sum(len(data) for data in snapshot.files.values())
    return Written(path, head_bytes + own, time.perf_counter() - began)


def _write(path: Path, data: bytes) -> SavedFile:
    write_through(path, data)
    return SavedFile(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def find_checkpoint(folder: Path, what: str) -> Path:
    """The checkpoint `folder`, or the latest of the run `folder`.

    Args:
        what: the option or field that named it, for the message.

    Raises:
        Sf2Error: neither.
    """
    if (folder / "head" / MANIFEST).exists():
        return folder
    found = checkpoint_folder.latest_checkpoint(folder / "checkpoints")
    if found is None:
        raise Sf2Error(
            f"{what} {folder}: neither a run with a checkpoint nor a checkpoint",
            "Name a run folder, or a folder in its checkpoints/.",
        )
    return found


def read_state(checkpoint: Path) -> RunState:
    """The state.json of a checkpoint.

    Raises:
        DamagedError: missing, not JSON, or not an sf2 checkpoint of this version.
    """
    path = checkpoint / STATE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree.get("version") if isinstance(tree, dict) else None
        if version != VERSION:
            raise DamagedError(f"{path}: version {version}, this sf2 reads {VERSION}")
        return RunState.model_validate(tree)
    except (OSError, ValueError, ValidationError) as failure:
        reason = " ".join(str(failure).split())
        raise DamagedError(f"{path}: not the state of an sf2 checkpoint ({reason})") from None


def read_tensors(checkpoint: Path, name: str, state: RunState) -> dict[str, Tensor]:
    """The tensors of one of the files that state.json lists, checked as they are read.

    Raises:
        DamagedError: it is not the file that was written.
    """
    path = checkpoint / name
    expected = state.files.get(name)
    try:
        data = path.read_bytes()
        if expected is None or len(data) != expected.bytes:
            wanted = f"{expected.bytes} bytes" if expected else "no such file"
            raise DamagedError(f"{path}: {len(data)} bytes, {STATE} says {wanted}")
        if hashlib.sha256(data).hexdigest() != expected.sha256:
            raise DamagedError(f"{path}: not the file that {STATE} names (sha256 differs)")
        return load(data)
    except (OSError, SafetensorError) as failure:
        raise DamagedError(f"{path}: cannot be read ({failure})") from None


def restore(checkpoint: Path, state: RunState, engine: TrainingEngine) -> None:
    """Everything but the backbone's weights into a new engine of any world size; collective.

    The weights are read from BACKBONE before the engine is built.

    Raises:
        DamagedError: a file is not what was written; raised on every rank.
    """
    failure, tensors = None, {}
    try:
        tensors = {name: read_tensors(checkpoint, name, state) for name in (MOMENTUM, BUFFERS)}
    except DamagedError as problem:
        failure = problem
    engine.head.ranks.raise_together(failure)
    engine.loss_scale.restore(tensors[MOMENTUM].pop(_LOSS_SCALE))
    restore_momentum(engine.deepspeed, tensors[MOMENTUM])
    restore_buffers(engine.backbone, tensors[BUFFERS])
    load_head(checkpoint / "head", engine.head, engine.head_optimizer)
