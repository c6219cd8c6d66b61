"""One rank's rows on disk: a safetensors file whose blocks of rows are hashed one by one.

safetensors' own writer builds the whole file in memory first, which doubles a shard of tens of
gigabytes. The format is a length, a JSON header and the tensors end to end
(huggingface.co/docs/safetensors, "Format"). A hash a block, kept in head.json, lets a rank check
what it reads while it reads it, be it a file or a part of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sf2cli.errors import DamagedError
from sf2cli.heads.tiles import row_tiles

BLOCK_ROWS = 16384
_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64"}


@dataclass(frozen=True)
class RowLayout:
    """A file of tensors [rows, width] of one type: float32, bfloat16 or float64."""

    names: tuple[str, ...]
    rows: int
    width: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of one tensor."""
        return self.width * self.dtype.itemsize

    @property
    def header(self) -> bytes:
        """All that stands before the first tensor; nothing but the layout decides it."""
        size = self.rows * self.row_bytes
        tensors = {
            name: {
                "dtype": _CODES[self.dtype],
                "shape": [self.rows, self.width],
                "data_offsets": [i * size, (i + 1) * size],
            }
            for i, name in enumerate(self.names)
        }
        text = json.dumps(tensors).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    @property
    def size(self) -> int:
        """The size of the file."""
        return len(self.header) + len(self.names) * self.rows * self.row_bytes

    def offset(self, name: str, row: int) -> int:
        """Where a tensor's row begins in the file."""
        before = self.names.index(name) * self.rows + row
        return len(self.header) + before * self.row_bytes


@torch.no_grad()
def write_rows(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Write tensors of one shape [n, d] and type to `path` and flush to the disk.

    Returns:
        For each tensor the sha256 of its blocks of BLOCK_ROWS rows, in hex.

    Raises:
        OSError: the disk is full or not writable.
    """
    first = next(iter(tensors.values()))
    layout = RowLayout(tuple(tensors), len(first), first.shape[1], first.dtype)
    hashes: dict[str, list[str]] = {}
    with path.open("wb", buffering=0) as stream, ThreadPoolExecutor(1) as beside:
        stream.write(layout.header)
        for name, tensor in tensors.items():
            hashes[name] = []
            for block in row_tiles(len(tensor), BLOCK_ROWS):
                # As bytes: numpy has no bfloat16.
                data = tensor[block].detach().cpu().contiguous().view(torch.uint8).numpy().data
                digest = beside.submit(_sha256, data)
                _write_all(stream.fileno(), data.cast("B"))
                hashes[name].append(digest.result())
        os.fsync(stream.fileno())
    return hashes


@torch.no_grad()
def read_rows(
    path: Path,
    layout: RowLayout,
    hashes: Mapping[str, Sequence[str]],
    into: Mapping[str, Tensor],
    first: int,
) -> None:
    """Fill each named tensor of `into` with the file's rows from `first` on.

    The blocks that hold them are read and checked, no others.

    Args:
        path: what `write_rows` wrote, of `layout`.
        hashes: what it returned.
        into: tensors [n, width] of any float type, on any device.
        first: a row of the file.

    Raises:
        OSError: it cannot be read.
        DamagedError: it is not the file that was written.
    """
    with path.open("rb", buffering=0) as stream:
        found = os.fstat(stream.fileno()).st_size
        if found != layout.size:
            raise DamagedError(f"{path}: {found} bytes, expected {layout.size}")
        if stream.read(len(layout.header)) != layout.header:
            raise DamagedError(f"{path}: its header is another file's")
        for name, rows in into.items():
            stop = first + len(rows)
            for number in range(first // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
                start = number * BLOCK_ROWS
                count = min(BLOCK_ROWS, layout.rows - start)
                data = bytearray(count * layout.row_bytes)
                _read_all(stream.fileno(), memoryview(data), layout.offset(name, start))
                if _sha256(data) != hashes[name][number]:
                    raise DamagedError(
                        f"{path}: rows {start} to {start + count} of {name} are not those that"
                        " were written (sha256 differs)"
                    )
                block = torch.frombuffer(data, dtype=layout.dtype).view(count, layout.width)
                low, high = max(first, start), min(stop, start + count)
                rows[low - first : high - first] = block[low - start : high - start].to(rows)


def _sha256(data: memoryview | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int, into: memoryview, offset: int) -> None:
    while into:
        count = os.preadv(descriptor, [into], offset)
        if not count:
            raise OSError("the file ends early")
        into, offset = into[count:], offset + count
