"""RecordIO as MXNet writes it: records in a file, each an image with its label.

A record is one chunk, or several where the payload held the chunks' magic number at a multiple
of four: the writer cuts there and drops the number, the reader puts it back. Integers are
little-endian. A chunk is magic, part and length (u32 each, the part in the upper three bits),
the bytes, and zeros up to a multiple of four. A payload is a header `<IfQQ` (number of labels
that follow, label, id, second id), those labels as float32, and the image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError
from sf2cli.data.sources.grouping import InputFile
from sf2cli.data.sources.source import check_length
from sf2cli.errors import Sf2Error

MAGIC = b"\x0a\x23\xd7\xce"
_CHUNK = struct.Struct("<4sI")
_WORD = struct.Struct("<I")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
# A header with two labels.
_HEAD_BYTES = _CHUNK.size + _HEADER.size + 8
# The beginning of a record that is one chunk and has one label.
_USUAL_HEAD = np.dtype(
    {
        "names": ["magic", "length", "flag", "label"],
        "formats": ["<u4", "<u4", "<u4", "<f4"],
        "offsets": [0, 4, 8, 12],
        "itemsize": _HEAD_BYTES,
    }
)
# Magic, length and flag of such a record, and where its image starts.
_USUAL = struct.Struct("<4sII")
_USUAL_START = _CHUNK.size + _HEADER.size
# Most aligned faces come with one call.
_USUAL_BYTES = 8_192


class Record(NamedTuple):
    """What stands before the image of a record.

    `flag` is the number of labels that follow the header, 0 for one in the header; `labels` are
    the first two at most; `image_bytes` is 0 for a record without an image.
    """

    flag: int
    labels: tuple[float, ...]
    id: int
    image_bytes: int


class RecordFile:
    """Records of a .rec file by their offset."""

    def __init__(self, path: Path) -> None:
        self._file = InputFile(path)
        self.path = path
        self.name = str(path)
        self.size = self._file.size

    def offsets(self) -> Iterator[int]:
        """The offset of every record, in the order of the file.

        Raises:
            Sf2Error: the file is cut short or holds something else.
        """
        offset = 0
        while offset < self.size:
            _, after = self._parts(offset, self._file.read(offset, _CHUNK.size))
            yield offset
            offset = after

    def head(self, offset: int) -> Record:
        """Header, labels and the image's length of the record at `offset`.

        Raises:
            Sf2Error: there is no whole record.
        """
        data = self._file.read(offset, _HEAD_BYTES)
        whole = self._whole(offset, data)
        if whole is not None:
            flag, labels, number, start = self._header(offset, data[_CHUNK.size :], whole)
            return Record(flag, labels, number, whole - start)
        parts, _ = self._parts(offset, data)
        length = _joined_length(parts)
        payload = self._join(offset, parts, data, _HEAD_BYTES)
        flag, labels, number, start = self._header(offset, payload, length)
        return Record(flag, labels, number, length - start)

    def labels(self, offsets: Sequence[int]) -> NDArray[np.float32]:
        """The first label of each of the records at `offsets`, as `head` has it.

        Raises:
            Sf2Error: there is no whole record.
        """
        heads = self._file.read_each(offsets, _HEAD_BYTES)
        found = np.empty(len(heads), np.float32)
        usual = np.zeros(len(heads), bool)
        if all(len(head) == _HEAD_BYTES for head in heads):
            rows = np.frombuffer(b"".join(heads), dtype=_USUAL_HEAD)
            ends = np.asarray(offsets, np.int64) + _CHUNK.size + rows["length"].astype(np.int64)
            usual = (
                (rows["magic"] == _WORD.unpack(MAGIC)[0])
                & (rows["length"] >= _HEADER.size)
                & (rows["length"] < 1 << 29)
                & (rows["flag"] == 0)
                & (ends + 3 < self.size)
            )
            found[:] = rows["label"]
        for row in np.flatnonzero(~usual).tolist():
            found[row] = self.head(offsets[row]).labels[0]
        return found

    def image(self, offset: int) -> bytes:
        """The encoded image of the record at `offset`; may be empty.

        Raises:
            BadImageError: it is too long for an image.
            Sf2Error: there is no whole record.
        """
        data = self._file.read_on(offset, _USUAL_BYTES)
        if len(data) > _USUAL_START:
            magic, length, flag = _USUAL.unpack_from(data)
            end = _CHUNK.size + length
            # With 3 bytes more it is whole whatever its padding.
            if magic == MAGIC and not flag and _USUAL_START < end <= len(data) - 3:
                check_length(length)
                return data[_USUAL_START:end]
        parts, _ = self._parts(offset, data)
        length = _joined_length(parts)
        check_length(length)
        payload = self._join(offset, parts, data, length)
        return payload[self._header(offset, payload, length)[3] :]

    def _header(
        self, offset: int, payload: bytes, length: int
    ) -> tuple[int, tuple[float, ...], int, int]:
        """Flag, labels, id and where the image starts; `payload` may be the beginning only."""
        if length < _HEADER.size:
            raise self._broken(offset, f"a record of {length} bytes, too few for its header")
        flag, label, number, _ = _HEADER.unpack_from(payload)
        start = _HEADER.size + 4 * flag
        if start > length:
            raise self._broken(offset, f"{flag} labels in a record of {length} bytes")
        labels = struct.unpack_from(f"<{min(flag, 2)}f", payload, _HEADER.size)
        return flag, labels if flag else (label,), number, start

    def _whole(self, offset: int, data: bytes) -> int | None:
        """The payload's length if a record is one chunk, as most are; `_parts` tells of others."""
        if len(data) < _HEAD_BYTES or not data.startswith(MAGIC):
            return None
        (word,) = _WORD.unpack_from(data, len(MAGIC))
        # A length below 2^29 leaves the part's number 0, which is `_WHOLE`.
        return word if word < 1 << 29 and offset + _CHUNK.size + word + 3 < self.size else None

    def _parts(self, offset: int, data: bytes) -> tuple[list[tuple[int, int]], int]:
        """Place and length of the bytes of each part of a record, and where the next one starts.

        `data` is what stands from `offset` on, a chunk's head at least.
        """
        part, length, after = self._chunk(offset, data)
        if part not in (_WHOLE, _FIRST):
            raise self._broken(offset, "a later part of a record without its first")
        parts = [(offset + _CHUNK.size, length)]
        while part in (_FIRST, _MIDDLE):
            place = after
            part, length, after = self._chunk(place, self._file.read(place, _CHUNK.size))
            if part not in (_MIDDLE, _LAST):
                raise self._broken(place, "a new record within another")
            parts.append((place + _CHUNK.size, length))
        return parts, after

    def _join(self, offset: int, parts: list[tuple[int, int]], data: bytes, most: int) -> bytes:
        """The payload, or at least its first `most` bytes; `data` stands at `offset`."""
        pieces: list[bytes] = []
        missing = most
        for place, length in parts:
            start, wanted = place - offset, min(length, missing)
            if start + wanted <= len(data):
                piece = data[start : start + wanted]
            else:
                piece = self._file.read(place, wanted)
            if len(piece) < wanted:
                raise self._broken(place, "the file has become shorter")
            pieces.append(piece)
            missing -= wanted + len(MAGIC)
            if missing < 0:
                break
        return MAGIC.join(pieces)

    def _chunk(self, offset: int, data: bytes) -> tuple[int, int, int]:
        """Part, length and what follows of the chunk at `offset`; `data` begins there."""
        if len(data) < _CHUNK.size:
            raise self._broken(offset, "the file ends within a record")
        magic, word = _CHUNK.unpack_from(data)
        if magic != MAGIC:
            raise self._broken(offset, f"no record starts there (found {magic.hex(' ')})")
        part, length = word >> 29, word & 0x1FFFFFFF
        if part > _LAST:
            raise self._broken(offset, f"a record's part of kind {part}")
        after = offset + _CHUNK.size + length + -length % 4
        if after > self.size:
            raise self._broken(offset, f"the file ends within a record of {length} bytes")
        return part, length, after

    def _broken(self, offset: int, what: str) -> Sf2Error:
        return Sf2Error(
            f"SOURCE {self.path}: at byte {offset} of {self.size}: {what}",
            "The file was cut short or damaged, or its index is another one's: copy both again.",
        )


def _joined_length(parts: list[tuple[int, int]]) -> int:
    return sum(length for _, length in parts) + len(MAGIC) * (len(parts) - 1)


def read_record(file: RecordFile, offset: int) -> bytes:
    """`file.image(offset)` for a source: a record that broke since it was listed is a bad image."""
    try:
        return file.image(offset)
    except Sf2Error as failure:
        raise BadImageError(failure.message) from None
