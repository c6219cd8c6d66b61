"""The report's files on disk: both whole, or none."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.files import write_through

JSON_NAME = "report.json"
PAGE_NAME = "report.html"


def check_folder(folder: Path) -> None:
    """Find out before the work whether a report can be written to `folder`.

    Raises:
        Sf2Error: it, or what is there of the path to it, is no folder or may not be written to.
    """
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise Sf2Error(f"--out {folder}: {nearest} is not a folder", "Name another folder.")
    if not os.access(nearest, os.W_OK):
        raise Sf2Error(f"--out {folder}: {nearest} may not be written to", "Name another folder.")
    for name in (JSON_NAME, PAGE_NAME):
        if (folder / name).is_dir():
            raise Sf2Error(f"--out {folder}: {name} in it is a folder", "Name another folder.")


def write_files(folder: Path, document: dict[str, Any], page: str) -> None:
    """Write report.json and report.html; earlier ones are replaced, other files are left alone.

    Raises:
        Sf2Error: the disk is full or may not be written to; what was made so far is gone again.
    """
    texts = {JSON_NAME: json.dumps(document, indent=2, ensure_ascii=False) + "\n", PAGE_NAME: page}
    partial = {name: folder / f".{name}.partial-{os.getpid()}" for name in texts}
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_through(partial[name], text)
        for name in texts:
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
