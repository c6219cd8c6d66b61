"""InsightFace's RecordIO sets: train.rec with train.idx and property, without MXNet.

An identity is named by its class number, plain ("7"), as lists and shards of the same set name
it. Its images are in the order of their keys. The class is read from every image's own record.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.sources.grouping import read_small_file, rows_by_label
from sf2cli.data.sources.record_file import RecordFile, read_record
from sf2cli.data.sources.record_index import Index, read_index, scan_index
from sf2cli.data.sources.source import SourceIdentity, SourceImage, SourceImages, shown_name
from sf2cli.errors import Sf2Error

# Labels are float32: above this, neighbours share a value.
EXACT = 2**24
_BATCH = 256


class _Table(NamedTuple):
    """The images: class, key and offset of each."""

    file: RecordFile
    labels: array[int]
    keys: Sequence[int]
    offsets: Sequence[int]


class RecordIoSource:
    """The images of one .rec file; `path` is that file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def description(self) -> dict[str, Any]:
        return {
            "kind": "recordio",
            "name": f"{shown_name(self.path.absolute().parent)}/{shown_name(self.path)}",
        }

    @property
    def places(self) -> list[Path]:
        return [self.path, self.path.with_suffix(".idx")]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: the file or its index is missing, cut short or damaged, a class is none, or
                there are more classes than float32 can number.
        """
        table = self._table
        return (
            SourceIdentity(str(label), SourceImages(rows, self._image))
            for label, rows in rows_by_label(table.labels)
        )

    def _image(self, row: int) -> SourceImage:
        file, labels, keys, offsets = self._table
        key, offset = keys[row], offsets[row]
        return SourceImage(
            f"{labels[row]}/{key}",
            f"{file.name} record {key} at byte {offset}",
            lambda: read_record(file, offset),
        )

    @cached_property
    def _table(self) -> _Table:
        file = RecordFile(self.path)
        listed = self.path.with_suffix(".idx")
        index = read_index(listed, file) if listed.is_file() else scan_index(file)
        rows = _image_rows(file, index)
        # Views: a copy would be 16 bytes more an image.
        keys = memoryview(index.keys)[rows.start : rows.stop]
        offsets = memoryview(index.offsets)[rows.start : rows.stop]
        table = _Table(file, array("i"), keys, offsets)
        with console.progress(f"read {self.path.name}", len(rows), unit="records") as line:
            for start in range(0, len(rows), _BATCH):
                labels = file.labels(offsets[start : start + _BATCH])
                for row in np.flatnonzero(_no_class(labels)).tolist():
                    raise self._not_a_class(keys[start + row], float(labels[row]))
                table.labels.frombytes(labels.astype(table.labels.typecode).tobytes())
                line.advance(len(labels))
        if not table.labels:
            raise Sf2Error(f"SOURCE {self.path}: no image in it", "Name an InsightFace .rec file.")
        self._compare_with_property(table)
        return table

    def _not_a_class(self, key: int, label: float) -> Sf2Error:
        why = (
            f"class ids are float32 here, which tells them apart below {EXACT} only"
            if label >= EXACT
            else "a class id is a whole number from 0 on"
        )
        return Sf2Error(
            f"SOURCE {self.path}: record {key} has the label {label:.10g}; {why}",
            "Take the set in another format, such as a list (--from list).",
        )

    def _compare_with_property(self, table: _Table) -> None:
        """Warn where the file beside says another number of classes: a sign of a cut copy."""
        path = self.path.with_name("property")
        if self.path.name != "train.rec" or not path.is_file():
            return
        said = read_small_file(path).decode("utf-8", "replace").partition(",")[0].strip()
        found = len(np.unique(np.frombuffer(table.labels, dtype=table.labels.typecode)))
        if said != str(found):
            console.warn(f"{path} says {said!r} classes, {self.path.name} has images of {found}")


def _no_class(labels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which labels are none that a class may have; NaN is one of these."""
    return np.asarray(~((labels >= 0) & (labels < EXACT) & (labels == np.floor(labels))))


def count_images(first_identity: float, keys: int, identities: Callable[[], int]) -> int:
    """How many images an indexed file has: keys 1 ... N.

    Args:
        first_identity: N + 1 as the header record has it, in float32.
        keys: how many records there are: N, the identities, and the header.
        identities: counts the identities' records, where `first_identity` is not exact.

    Raises:
        ValueError: the numbers contradict each other.
    """
    exact = first_identity < EXACT
    count = int(first_identity) - 1 if exact else keys - identities() - 1
    if count < 0 or count >= keys or np.float32(count + 1) != np.float32(first_identity):
        raise ValueError(f"the header tells of {first_identity - 1:.10g} images")
    return count


def _image_rows(file: RecordFile, index: Index) -> range:
    """The rows of the index, which is sorted by key, that are images.

    With an image in record 0, or none of that key, all are (im2rec, sequence builders). Else
    record 0 is InsightFace's header, and its images have the keys 1 ... N.
    """
    keys = index.keys
    header = file.head(index.offsets[0]) if keys and keys[0] == 0 else None
    if header is None or header.flag == 0 or header.image_bytes:
        # Numbered by their place in the file, the records that hold no image come last.
        return range(len(keys) - (0 if index.keyed else _trailing(file, index)))
    try:
        if not 1 <= header.labels[0] < 2**63:
            raise ValueError(f"the header's label is {header.labels[0]:.10g}")
        count = count_images(header.labels[0], len(keys), lambda: _trailing(file, index))
        if count and (keys[1], keys[count]) != (1, count):
            raise ValueError(f"the first {count} keys are not 1 to {count}")
    except ValueError as failure:
        raise Sf2Error(
            f"SOURCE {file.path}: {len(keys)} records are listed, but {failure}",
            "The .rec or its .idx was cut short: copy them again, or remove the .idx to have it"
            " made anew.",
        ) from None
    return range(1, count + 1)


def _trailing(file: RecordFile, index: Index) -> int:
    """How many records at the end of the keys are of identities: several labels, no image."""
    for count, offset in enumerate(reversed(index.offsets)):
        record = file.head(offset)
        if record.flag < 2 or record.image_bytes:
            return count
    return len(index.offsets)
