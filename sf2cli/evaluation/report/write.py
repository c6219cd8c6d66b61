"""The report's files on disk: all whole, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sf2cli.errors import Sf2Error
from sf2cli.files import write_through

JSON_NAME = "report.json"
PAGE_NAME = "report.html"
SCORES_NAME = "scores.npz"


def check_folder(
    folder: Path,
    names: Sequence[str],
    *,
    overwrite: bool,
    flag: str = "--out",
    held: str = "a report is",
) -> None:
    """Find out before the work whether a report, or what else `held` says, can be written.

    Args:
        folder: where to.
        names: of the files to write there.
        overwrite: whether earlier ones there may be replaced.
        flag: that named the folder.
        held: what an earlier one is, with its verb.

    Raises:
        Sf2Error: it, or what is there of the path to it, is no folder or may not be written to; or
            it holds an earlier one.
    """
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise Sf2Error(f"{flag} {folder}: {nearest} is not a folder", "Name another folder.")
    if not os.access(nearest, os.W_OK):
        raise Sf2Error(f"{flag} {folder}: {nearest} may not be written to", "Name another folder.")
    for name in names:
        if (folder / name).is_dir():
            raise Sf2Error(f"{flag} {folder}: {name} in it is a folder", "Name another folder.")
        if (folder / name).exists() and not overwrite:
            raise Sf2Error(
                f"{flag} {folder}: {held} there already ({name})",
                "Name another folder, or say --overwrite to replace what is there.",
            )


def write_files(folder: Path, contents: Mapping[str, str | bytes], *, flag: str = "--out") -> None:
    """Write files by their names into the folder that `flag` named; others are left alone.

    Raises:
        Sf2Error: the disk is full or may not be written to; what was made so far is gone again.
    """
    partial = {name: folder / f".{name}.partial-{os.getpid()}" for name in contents}
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_through(partial[name], content)
        for name in contents:
            partial[name].replace(folder / name)
    except BaseException as failure:
        for path in partial.values():
            with suppress(OSError):
                path.unlink()
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(failure, OSError):
            raise Sf2Error(
                f"{flag} {folder}: cannot be written to ({failure.strerror})",
                "Free disk space, or name a folder you may write to.",
            ) from None
        raise
