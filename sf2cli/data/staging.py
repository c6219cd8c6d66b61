"""Folders that come into being whole: made beside their place, and moved there at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.errors import Sf2Error


@contextmanager
def staged(targets: Sequence[Path], overwrite: bool) -> Iterator[list[Path]]:
    """Empty folders to fill, moved to `targets` when the block ends well and removed otherwise.

    Args:
        targets: where the folders shall be; parents are made.
        overwrite: replace packed sets that are there already.

    Raises:
        Sf2Error: a target exists, and is not a packed set or `overwrite` is off.
        OSError: the disk is full or cannot be written.
    """
    for target in targets:
        _check_free(target, overwrite)
    folders = [_beside(target, "partial") for target in targets]
    old = [_beside(target, "old") for target in targets]
    try:
        for folder in folders:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove(folder)
            folder.mkdir()
        yield folders
        for folder in folders:
            _sync(folder)
        _move_all(folders, targets, old)
    finally:
        for folder in (*folders, *old):
            _remove(folder)


def _check_free(target: Path, overwrite: bool) -> None:
    if not target.name:
        raise Sf2Error(f"OUT {target}: not the name of a folder to make")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise Sf2Error(f"OUT {target} exists already", "Choose another name, or add --overwrite.")
    if target.is_symlink() or not (target / MANIFEST_NAME).is_file():
        raise Sf2Error(
            f"OUT {target} exists and is not a packed set: --overwrite leaves it alone",
            "Choose another name, or remove it yourself.",
        )


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{os.getpid()}")


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
            _sync(target.parent)
    except BaseException:
        for origin, place in reversed(moved):
            # The interrupted move itself may not have happened.
            if place.exists() and not origin.exists():
                place.rename(origin)
        raise


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
