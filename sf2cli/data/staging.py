"""Folders that come into being whole: made beside their place, and moved there at the end."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from sf2cli import console
from sf2cli.data.manifest import INDEX_NAME, MANIFEST_NAME, SOURCES_NAME
from sf2cli.data.neighbours import SIZES_NAME, WIDS_NAME
from sf2cli.errors import Sf2Error
from sf2cli.files import sync

_SET = "set"
_LOCK = "lock"


@contextmanager
def staged(
    targets: Sequence[Path], overwrite: bool, progress: Callable[[Path], str]
) -> Iterator[list[Path]]:
    """Folders to fill, moved to `targets` when the block ends well.

    Each lies, as `set`, in a hidden folder beside its target, in which there is room for what is
    only of use while it is made. A block that ends otherwise leaves the hidden folders, for the
    next call to go on with, if there was `progress` in one of them, and nothing if not. SIGTERM
    and SIGHUP count as an end like any other.

    Args:
        targets: where the folders shall be; parents are made.
        overwrite: replace packed sets that are there already.
        progress: what there is to go on with in a hidden folder, in words; empty for nothing.

    Raises:
        Sf2Error: a target exists, and is not a packed set or `overwrite` is off; or another
            process is at it.
        OSError: the disk is full or cannot be written.
    """
    for target in targets:
        _check_free(target, overwrite)
        _warn_of_leftovers(target)
    stages = [stage_of(target) for target in targets]
    folders = [stage / _SET for stage in stages]
    old = [target.with_name(f".{target.name}.old-{os.getpid()}") for target in targets]
    parents = [parent for target in targets for parent in target.parents if not parent.exists()]
    ours: list[Path] = []
    moved = False
    with _signals_unwind(), ExitStack() as locks:
        try:
            for stage, folder in zip(stages, folders, strict=True):
                stage.mkdir(parents=True, exist_ok=True)
                locks.enter_context(_locked(stage))
                ours.append(stage)
                if not progress(stage):
                    shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(exist_ok=True)
            yield folders
            for folder in folders:
                sync(folder)
            _move_all(folders, targets, old)
            moved = True
        finally:
            kept = [stage for stage in ours if progress(stage) and not moved]
            for stage in kept:
                console.info(
                    f"kept in {stage}: {progress(stage)}; the same command goes on from there,"
                    " --restart begins anew"
                )
            for folder in (*old, *([] if kept else ours)):
                shutil.rmtree(folder, ignore_errors=True)
            for parent in parents:
                # One that holds a set, or a part of one, is not empty, and stays.
                with suppress(OSError):
                    parent.rmdir()


def stage_of(target: Path) -> Path:
    """The hidden folder in which `target` is made."""
    return target.with_name(f".{target.name}.partial")


def clear_stage(target: Path) -> None:
    """Remove what an interrupted packing left of `target`, for --restart.

    Raises:
        Sf2Error: another process is at it.
    """
    stage = stage_of(target)
    if stage.is_dir():
        with _locked(stage):
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _locked(stage: Path) -> Iterator[None]:
    """Hold a folder for the length of the block; the system lets go at a kill.

    This kind of lock is not inherited by a worker, which may outlive a kill for a moment.
    """
    with (stage / _LOCK).open("w") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise Sf2Error(
                f"{stage}: another `sf2 pack` is writing there", "Wait for it, or stop it."
            ) from None
        except OSError as failure:
            # Some network file systems know no locks; a packing there goes on without.
            console.warn(f"{stage}: cannot be locked ({failure.strerror})")
        yield


def _check_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise Sf2Error(f"OUT {target} exists already", "Choose another name, or add --overwrite.")
    if target.is_symlink() or not (target / MANIFEST_NAME).is_file():
        raise Sf2Error(
            f"OUT {target} exists and is not a packed set: --overwrite leaves it alone",
            "Choose another name, or remove it yourself.",
        )
    foreign = sorted({path.name for path in target.iterdir()} - _names_of_set(target))
    if foreign:
        raise Sf2Error(
            f"OUT {target} also holds {foreign[0]}, which is not of the set: --overwrite leaves it"
            " alone",
            "Move that away, or choose another name.",
        )


def _warn_of_leftovers(target: Path) -> None:
    for path in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        console.warn(f"{path} is a set that was being replaced when a packing was killed")


def _names_of_set(folder: Path) -> set[str]:
    shards = {path.name for path in folder.glob("*.tar") if path.is_file()}
    return {MANIFEST_NAME, INDEX_NAME, SOURCES_NAME, WIDS_NAME, SIZES_NAME, *shards}


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """A `kill` or a closed terminal leaves the block by an exception, as Ctrl-C does."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # Under nohup SIGHUP is ignored, and stays so.
    caught = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in caught:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _move_all(folders: Sequence[Path], targets: Sequence[Path], old: Sequence[Path]) -> None:
    """All of them or, if one move fails or is interrupted, none."""
    moved: list[tuple[Path, Path]] = []
    try:
        for folder, target, aside in zip(folders, targets, old, strict=True):
            if target.exists():
                moved.append((target, aside))
                target.rename(aside)
            moved.append((folder, target))
            folder.rename(target)
        for target in targets:
            sync(target.parent)
    except BaseException:
        for origin, place in reversed(moved):
            # The interrupted move itself may not have happened.
            if place.exists() and not origin.exists():
                place.rename(origin)
        raise
