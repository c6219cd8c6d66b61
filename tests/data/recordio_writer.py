"""Writes .rec and .idx files, from the description of the format alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

MAGIC = struct.pack("<I", 0xCED7230A)


def chunks(payload: bytes) -> bytes:
    """A record's bytes: cut, with the magic dropped, wherever it stands at a multiple of four."""
    parts, start = [], 0
    for place in range(0, len(payload) - 3, 4):
        if payload[place : place + 4] == MAGIC and place >= start:
            parts.append(payload[start:place])
            start = place + 4
    parts.append(payload[start:])
    written = b""
    for i, part in enumerate(parts):
        kind = 0 if len(parts) == 1 else 1 if i == 0 else 3 if i == len(parts) - 1 else 2
        written += MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
    return written


def payload(labels: float | Sequence[float], key: int, image: bytes) -> bytes:
    """One label goes into the header; several follow it, their number in the flag."""
    if isinstance(labels, int | float):
        return struct.pack("<IfQQ", 0, labels, key, 0) + image
    array = struct.pack(f"<{len(labels)}f", *labels)
    return struct.pack("<IfQQ", len(labels), 0, key, 0) + array + image


def write_rec(
    path: Path, records: Iterable[tuple[int, float | Sequence[float], bytes]]
) -> list[int]:
    """Write (key, labels, image) records and the .idx beside them; the offsets."""
    offsets = []
    with path.open("wb") as rec, path.with_suffix(".idx").open("w") as idx:
        for key, labels, image in records:
            offsets.append(rec.tell())
            idx.write(f"{key}\t{rec.tell()}\n")
            rec.write(chunks(payload(labels, key, image)))
    return offsets


def insightface(
    images: Sequence[Sequence[bytes]], flag2: bool = False
) -> list[tuple[int, float | Sequence[float], bytes]]:
    """`images[class]` in InsightFace's layout: images 1 ... N, identities, and key 0 last."""
    records: list[tuple[int, float | Sequence[float], bytes]] = []
    ranges = []
    for label, pictures in enumerate(images):
        first = len(records) + 1
        for picture in pictures:
            key = len(records) + 1
            records.append((key, [label, key] if flag2 else label, picture))
        ranges.append((first, len(records) + 1))
    end = len(records) + 1
    records += [(end + i, both, b"") for i, both in enumerate(ranges)]
    return [*records, (0, (end, end + len(images)), b"")]
