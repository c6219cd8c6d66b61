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


def check_folder(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Find out before the work whether a report can be written to `folder`.

    Args:
        folder: of the report.
        names: of the files to write there.
        overwrite: whether an earlier report there may be replaced.

    Raises:
        Sf2Error: it, or what is there of the path to it, is no folder or may not be written to; or
            it holds a report.
    """
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise Sf2Error(f"--out {folder}: {nearest} is not a folder", "Name another folder.")
    if not os.access(nearest, os.W_OK):
        raise Sf2Error(f"--out {folder}: {nearest} may not be written to", "Name another folder.")
    for name in names:
        if (folder / name).is_dir():
            raise Sf2Error(f"--out {folder}: {name} in it is a folder", "Name another folder.")
        if (folder / name).exists() and not overwrite:
            raise Sf2Error(
                f"--out {folder}: a report is there already ({name})",
                "Name another folder, or say --overwrite to replace the report.",
            )


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write a report's files, by their names; other files are left alone.

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
                f"--out {folder}: the report cannot be written ({failure.strerror})",
                "Free disk space, or name a folder you may write to.",
            ) from None
        raise
