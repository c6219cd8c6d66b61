"""Files that have to be on the disk, and their hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK_BYTES = 1 << 18


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(chunk):
            digest.update(chunk[:count])
    return digest.hexdigest()


def write_through(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8 with its line ends as they are, and wait for the disk.

    Raises:
        OSError: the disk is full or the place cannot be written to.
    """
    with path.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(path: Path, text: str) -> None:
    """Replace a small file whole: a reader sees the old text or the new.

    Raises:
        OSError: as `write_through`; the old file stays.
    """
    beside = path.with_name(f".{path.name}-partial")
    try:
        write_through(beside, text)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk.

    Raises:
        OSError: it cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
