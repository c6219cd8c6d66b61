"""Folders that come into being whole: made beside their place, and moved there at the end."""

from __future__ import annotations

import glob
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from sf2cli import console
from sf2cli.data.manifest import INDEX_NAME, MANIFEST_NAME, SOURCES_NAME
from sf2cli.errors import Sf2Error
from sf2cli.files import sync


@contextmanager
def staged(targets: Sequence[Path], overwrite: bool) -> Iterator[list[Path]]:
    """Empty folders to fill, moved to `targets` when the block ends well and removed otherwise.

    SIGTERM and SIGHUP count as an end like any other; SIGKILL leaves hidden folders, which the
    next call warns of.

    Args:
        targets: where the folders shall be; parents are made.
        overwrite: replace packed sets that are there already.

    Raises:
        Sf2Error: a target exists, and is not a packed set or `overwrite` is off.
        OSError: the disk is full or cannot be written.
    """
    for target in targets:
        _check_free(target, overwrite)
        _warn_of_leftovers(target)
    folders = [_beside(target, "partial") for target in targets]
    old = [_beside(target, "old") for target in targets]
    parents = [parent for target in targets for parent in target.parents if not parent.exists()]
    with _signals_unwind():
        try:
            for folder in folders:
                folder.parent.mkdir(parents=True, exist_ok=True)
                _remove(folder)
                folder.mkdir()
            yield folders
            for folder in folders:
                sync(folder)
            _move_all(folders, targets, old)
        finally:
            for folder in (*folders, *old):
                _remove(folder)
            for parent in parents:
                # One that holds a set now is not empty, and stays.
                with suppress(OSError):
                    parent.rmdir()


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
    for path in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        console.warn(f"{path} is of a packing that was killed, or that still runs")


def _names_of_set(folder: Path) -> set[str]:
    shards = {path.name for path in folder.glob("*.tar") if path.is_file()}
    return {MANIFEST_NAME, INDEX_NAME, SOURCES_NAME, *shards}


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{os.getpid()}")


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


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
