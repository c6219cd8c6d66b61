"""One rank's rows on disk: a safetensors file, hashed while it is written.

safetensors' own writer builds the whole file in memory first, which doubles a shard of tens of
gigabytes and needs a second read for the hash. The format is a length, a JSON header and the
tensors end to end (huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from sf2cli.heads.tiles import row_tiles

ROWS_AT_A_TIME = 16384
_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64"}


@torch.no_grad()
def write_rows(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors [n, d] of float32, bfloat16 or float64 to `path` and flush to the disk.

    Returns:
        The sha256 of the file, in hex.

    Raises:
        OSError: the disk is full or not writable.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for part in (struct.pack("<Q", len(text)), text):
            digest.update(part)
            stream.write(part)
        for tensor in tensors.values():
            for tile in row_tiles(len(tensor), ROWS_AT_A_TIME):
                # As bytes: numpy has no bfloat16.
                rows = tensor[tile].detach().cpu().contiguous().view(torch.uint8).numpy().data
                digest.update(rows)
                stream.write(rows)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def read_rows(path: Path, into: Mapping[str, Tensor], first: int) -> None:
    """Copy the rows from `first` on of each named tensor of `path` into `into`, and read no others.

    Raises:
        OSError, safetensors.SafetensorError: not there, or not such a file.
    """
    with safe_open(path, framework="pt", device="cpu") as stored, torch.no_grad():
        for name, rows in into.items():
            source = stored.get_slice(name)
            for tile in row_tiles(len(rows), ROWS_AT_A_TIME):
                rows[tile] = source[first + tile.start : first + tile.stop].to(rows)
