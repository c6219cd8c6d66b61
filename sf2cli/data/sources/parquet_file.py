"""One Parquet file of embedded images: its columns, its labels, its images by row group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sf2cli.data.sources.list_format import LABEL_NAMES
from sf2cli.errors import Sf2Error

_IMAGE_NAMES = ("image", "img", "face", "picture", "jpg", "jpeg", "png", "bytes", "image_bytes")


def pyarrow() -> tuple[ModuleType, ModuleType]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        Sf2Error: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Sf2Error(
            "SOURCE: pyarrow, which reads Parquet, is not installed", "pip install 'sf2[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet


class ParquetFile:
    """A file with a column of encoded images and one of labels.

    Args:
        path: the file.

    Raises:
        Sf2Error: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow, self._parquet = pyarrow()
        try:
            # Closed again: a set has more files than a process may have open.
            with self._parquet.ParquetFile(path) as file:
                self._metadata, schema = file.metadata, file.schema_arrow
        except (OSError, self._arrow.ArrowException) as failure:
            raise self._bad(f"no Parquet file ({_short(failure)})") from None
        self._image = self._column(schema, _IMAGE_NAMES, self._is_image, "images")
        self._label = self._column(schema, LABEL_NAMES, self._is_label, "labels")
        self.class_names = _class_names(schema.metadata, self._label)
        self.rows_of_groups = [
            self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups)
        ]
        self._nested = self._arrow.types.is_struct(schema.field(self._image).type)
        self._named = self._nested and "path" in [
            part.name for part in schema.field(self._image).type
        ]

    def labels(self, group: int) -> Iterator[tuple[str | int, str]]:
        """The label of each row of a group, and its image's name, empty where it has none.

        Raises:
            Sf2Error: a label is missing, or the file is corrupt.
        """
        columns = [self._label] + ([f"{self._image}.path"] if self._named else [])
        table = self._read(group, columns)
        # A label of `datasets` may be a dictionary's number, which is its text.
        values = table.column(self._label).to_pylist()
        names: Sequence[str | None] = [None] * len(values)
        if self._named:
            names = [one and one["path"] for one in table.column(self._image).to_pylist()]
        for row, (value, name) in enumerate(zip(values, names, strict=True)):
            if value is None or value in ("", -1):
                raise self._bad(f"row {row} of row group {group} has no label, but {value!r}")
            yield value, name or ""

    def images(self, group: int) -> Any:
        """The images of a group: something whose [row] has `as_py`, to bytes or None.

        Raises:
            Sf2Error: the file is corrupt.
        """
        if not self._nested:
            return self._read(group, [self._image]).column(self._image)
        column = self._read(group, [f"{self._image}.bytes"]).column(self._image)
        # Of several chunks, a struct's field is each chunk's.
        parts = [chunk.field("bytes") for chunk in column.chunks]
        return self._arrow.chunked_array(parts, self._arrow.binary())

    def _read(self, group: int, columns: list[str]) -> Any:
        try:
            with self._parquet.ParquetFile(self.path, metadata=self._metadata) as file:
                return file.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, self._arrow.ArrowException) as failure:
            raise self._bad(f"row group {group} cannot be read ({_short(failure)})") from None

    def _column(self, schema: Any, names: Sequence[str], fits: Any, what: str) -> str:
        for name in names:
            if name in schema.names and fits(schema.field(name).type):
                return name
        shown = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise self._bad(f"no column of {what} ({', '.join(names[:4])} ...), but {shown[:300]}")

    def _is_image(self, kind: Any) -> bool:
        types = self._arrow.types
        if types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and bool(types.is_binary(kind.field(index).type))
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def _is_label(self, kind: Any) -> bool:
        types = self._arrow.types
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))

    def _bad(self, what: str) -> Sf2Error:
        return Sf2Error(
            f"SOURCE {self.path}: {what}",
            "Name Parquet with a column `image` ({bytes, path} or bytes) and a column `label`.",
        )


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    """The names of the classes, where the file has been written by `datasets`."""
    try:
        written = json.loads((metadata or {})[b"huggingface"])
        names = written["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    good = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return names if good else None


def _short(failure: Exception) -> str:
    return " ".join(str(failure).split())[:200]
