"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sf2cli import console
from sf2cli.errors import Sf2Error

_LOCK = ".lock"


@contextmanager
def locked(folder: Path, kind: str = "run") -> Iterator[None]:
    """Hold the folder of a `kind`, which exists, for the length of the block; the system
    lets go at a kill.

    The lock is this process's alone: data-loading processes that outlive a killed run for a
    moment do not hold it.

    Raises:
        Sf2Error: another process holds it.
        OSError: the folder cannot be written to.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        raise Sf2Error(
            f"{kind} folder {folder}: another {kind} is writing to it",
            "Wait for it or stop it, or choose another folder with --out.",
        ) from None
    except OSError as failure:
        # Some network file systems know no locks; what is done there goes on without.
        console.warn(f"{kind} folder {folder}: cannot be locked ({failure.strerror})")
    try:
        yield
    finally:
        os.close(descriptor)
