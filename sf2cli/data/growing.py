"""Files that grow with the images of a set, and go on after a cut."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import IO

from numpy.lib import format as npy

from sf2cli.files import file_sha256

BUFFER_BYTES = 1 << 20
_ROWS_NAME = "index.rows"
_ROW = struct.Struct("<4q")


class GrowingIndex:
    """The rows of index.npy, which cannot have its header before their number is known.

    Args:
        folder: where the rows are kept meanwhile.
        samples: rows that are there already and stay; others are cut off.
    """

    def __init__(self, folder: Path, samples: int) -> None:
        self._samples = samples
        self.rows = reopened(folder / _ROWS_NAME, samples * _ROW.size)

    def add(self, shard: int, offset: int, size: int, label: int) -> None:
        """Append the row of the next sample."""
        self.rows.write(_ROW.pack(shard, offset, size, label))
        self._samples += 1

    def write(self, path: Path) -> str:
        """Write the index, through to the disk, as `numpy.save` does; its sha256 in hex.

        Raises:
            OSError: the disk is full.
        """
        self.rows.flush()
        header = {"descr": "<i8", "fortran_order": False, "shape": (self._samples, 4)}
        with path.open("wb") as stream, open(self.rows.name, "rb") as rows:
            npy.write_array_header_1_0(stream, header)
            shutil.copyfileobj(rows, stream, BUFFER_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        return file_sha256(path)


def reopened(path: Path, size: int) -> IO[bytes]:
    """A file to append to after its first `size` bytes."""
    stream = path.open("r+b" if size else "wb", BUFFER_BYTES)
    stream.truncate(size)
    stream.seek(size)
    return stream
