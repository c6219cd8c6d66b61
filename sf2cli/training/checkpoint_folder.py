"""The folder of a run's checkpoints: which are whole, and how one comes and goes.

A folder step-N is whole, since it gets its name by a rename when all of it is on the disk. What is
being written or removed has a hidden name, and is swept away before the next one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sf2cli.files import sync

_PATTERN = "step-" + "[0-9]" * 8


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, newest first."""
    return sorted((path for path in folder.glob(_PATTERN) if path.is_dir()), reverse=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint, or None where none was ever written."""
    return next(iter(whole_checkpoints(folder)), None)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step-{step:08d}"


def begin(folder: Path, step: int) -> Path:
    """A new hidden folder to write the checkpoint of a step into.

    Raises:
        OSError: the disk refuses.
    """
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale)
    partial = _hidden(checkpoint_path(folder, step))
    partial.mkdir(parents=True)
    return partial


def publish(partial: Path, folder: Path, step: int) -> Path:
    """Give what was written its name, in place of an earlier one of that step.

    Raises:
        OSError: the disk refuses.
    """
    final = checkpoint_path(folder, step)
    # After a power cut the name must not stand over files that never reached the disk.
    for path in (*(p for p in partial.rglob("*") if p.is_dir()), partial):
        sync(path)
    _remove(final)
    partial.rename(final)
    sync(folder)
    return final


def prune(folder: Path, step: int, keep: int) -> None:
    """Remove all but the `keep` newest up to `step`.

    Later ones are damaged: the run went back behind them, and will write them again.

    Raises:
        OSError: the disk refuses.
    """
    newest = checkpoint_path(folder, step).name
    kept_or_older = [path for path in whole_checkpoints(folder) if path.name <= newest]
    for path in kept_or_older[keep:]:
        _remove(path)


def _remove(path: Path) -> None:
    """Half a checkpoint must not keep its name."""
    if path.exists():
        gone = path.with_name(f".{path.name}-removed")
        path.rename(gone)
        shutil.rmtree(gone)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}-partial")
