"""Checkpoints of a run: what is in one, and reading it, by any world size. `snapshot` writes them.

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
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sf2cli.errors import DamagedError, Sf2Error, why
from sf2cli.heads.manifest import MANIFEST
from sf2cli.heads.state import load_head
from sf2cli.training import checkpoint_folder
from sf2cli.training.backbone_state import restore_momentum
from sf2cli.training.buffers import restore_buffers
from sf2cli.training.engine import TrainingEngine

STATE = "state.json"
BACKBONE, MOMENTUM, BUFFERS = (f"{n}.safetensors" for n in ("backbone", "momentum", "buffers"))
VERSION: Literal[3] = 3
LOSS_SCALE = "loss_scale"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SavedFile(_Frozen):
    """A file's size and hash."""

    bytes: int
    sha256: str


class RunState(_Frozen):
    """state.json: where a run stands.

    `planned_steps` is the length that the run was begun with: see `head.HeadSchedule`.
    `bad_samples` are the damaged samples it has met, each with what is wrong with it.
    `manifest_sha256` ties it to the packed set it saw. `products` is the type of the head's matrix
    products, which a run measures once: another type would be another run.
    """

    format: Literal["sf2-checkpoint"] = "sf2-checkpoint"
    version: Literal[3] = VERSION
    step: int
    planned_steps: int = Field(gt=0)
    bad_samples: dict[int, str]
    world_size: int
    manifest_sha256: str
    products: Literal["float32", "bfloat16", "float64"]
    files: dict[str, SavedFile] = {}


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
        raise DamagedError(f"{path}: cannot be read ({why(failure)})") from None


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
    engine.loss_scale.restore(tensors[MOMENTUM].pop(LOSS_SCALE))
    restore_momentum(engine.deepspeed, tensors[MOMENTUM])
    restore_buffers(engine.backbone, tensors[BUFFERS])
    load_head(checkpoint / "head", engine.head, engine.head_optimizer)
    # As the step that was saved had it: nothing may be left to do, and validation reads it.
    engine.head_schedule.apply(engine.head, max(state.step - 1, 0))
