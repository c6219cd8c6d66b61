"""Taking a run as it stands at a step, and writing that as a checkpoint, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from sf2cli.errors import Sf2Error
from sf2cli.files import write_through
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.state import HeadSnapshot, take_head, write_head
from sf2cli.training import checkpoint_folder
from sf2cli.training.backbone_state import gather_momentum, gather_weights
from sf2cli.training.buffers import gather_buffers
from sf2cli.training.checkpoint import (
    BACKBONE,
    BUFFERS,
    LOSS_SCALE,
    MOMENTUM,
    STATE,
    RunState,
    SavedFile,
)
from sf2cli.training.engine import TrainingEngine


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
    bad_samples: Mapping[int, str],
    *,
    copy: bool,
) -> Snapshot:
    """The run as it stands; collective.

    Args:
        bad_samples: those the run has met, of all ranks.
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
    momentum = {**gather_momentum(engine.deepspeed), LOSS_SCALE: engine.loss_scale.state()}
    buffers = gather_buffers(engine.backbone)
    head = take_head(engine.head, engine.head_optimizer, identities, copy=copy)
    files = {}
    if engine.head.ranks.rank == 0:
        files = {BACKBONE: save(weights), MOMENTUM: save(momentum), BUFFERS: save(buffers)}
    state = RunState(
        step=step,
        planned_steps=engine.planned_steps,
        bad_samples=dict(bad_samples),
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
