"""Tar and zip files as a run of members and as random access, without unpacking to disk."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol

from sf2cli.data.images import BadImageError
from sf2cli.data.sources.grouping import InputFile
from sf2cli.data.sources.source import check_length
from sf2cli.errors import Sf2Error

_Stream = IO[bytes] | gzip.GzipFile
_END = bytes(tarfile.BLOCKSIZE)
# Long names and PAX headers are read whole; theirs are short, a hostile one's may not be.
_HEADER_BYTES = 1 << 20
# Each decompresses from the start again.
_MAX_REWINDS = 100
_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError)
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    *_BROKEN,
)


class Member(NamedTuple):
    """A member that is no folder; `read` of its container takes `place` and `size`."""

    name: str
    kind: Literal["file", "link", "other"]
    place: int
    size: int


class Container(Protocol):
    """An archive.

    `in_order` says that members are read in the order they stand in, or slowly.
    """

    in_order: bool

    def members(self) -> Iterator[Member]:
        """All members, in the order of the archive.

        Raises:
            Sf2Error: it cannot be read, was cut short, or is another kind of file.
        """

    def read(self, place: int, size: int) -> bytes:
        """The bytes of a member.

        Raises:
            BadImageError: they cannot be had.
        """


class TarContainer:
    """A plain tar."""

    in_order = False

    def __init__(self, path: Path) -> None:
        self._file = InputFile(path)

    def members(self) -> Iterator[Member]:
        with self._file.path.open("rb") as stream:
            yield from tar_members(stream, self._file.path)

    def read(self, place: int, size: int) -> bytes:
        check_length(size)
        data = self._file.read(place, size)
        if len(data) < size:
            raise BadImageError(f"{len(data)} of its {size} bytes are there")
        return data


class GzipTarContainer:
    """A tar within gzip, read from the front to the back."""

    in_order = True

    def __init__(self, path: Path) -> None:
        self._path = path
        InputFile(path)
        self._stream: gzip.GzipFile | None = None
        self._rewinds = 0

    def members(self) -> Iterator[Member]:
        with gzip.open(self._path) as stream:
            yield from tar_members(stream, self._path)
            try:
                # gzip checks what it has unpacked when it comes to the end.
                stream.read(_HEADER_BYTES)
            except _BROKEN as failure:
                raise _cut(self._path, stream.tell(), str(failure)) from None

    def read(self, place: int, size: int) -> bytes:
        check_length(size)
        if self._stream is None:
            self._stream = gzip.open(self._path)  # noqa: SIM115
        if place < self._stream.tell():
            self._rewinds += 1
            if self._rewinds > _MAX_REWINDS:
                raise Sf2Error(
                    f"SOURCE {self._path}: the images of an identity lie apart, and gzip gives"
                    " them one after the other only",
                    "Decompress it with gunzip, and pack the .tar.",
                )
        try:
            self._stream.seek(place)
            data = self._stream.read(size)
        except _BROKEN as failure:
            raise BadImageError(f"cannot be unpacked ({failure})") from None
        if len(data) < size:
            raise BadImageError(f"{len(data)} of its {size} bytes are there")
        return data


class ZipContainer:
    """A zip; its directory is in memory, half a kilobyte a member."""

    in_order = False

    def __init__(self, path: Path) -> None:
        InputFile(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN_ZIP as failure:
            raise Sf2Error(
                f"SOURCE {path}: no whole zip archive ({failure})",
                "It was cut short or is another kind of file: copy it again.",
            ) from None

    def members(self) -> Iterator[Member]:
        for place, info in enumerate(self._zip.infolist()):
            mode = stat.S_IFMT(info.external_attr >> 16)
            if mode == stat.S_IFLNK:
                yield Member(info.filename, "link", place, info.file_size)
            elif mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                yield Member(info.filename, "other", place, info.file_size)
            elif not info.filename.endswith("/"):
                yield Member(info.filename, "file", place, info.file_size)

    def read(self, place: int, size: int) -> bytes:
        check_length(size)
        info = self._zip.infolist()[place]
        # The others' decompressors would give all of a bomb at once.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadImageError(f"compressed by zip's method {info.compress_type}, not deflate")
        try:
            with self._zip.open(info) as stream:
                # One more shows the end to zipfile, which compares the CRC there.
                return stream.read(size + 1)
        except _BROKEN_ZIP as failure:
            raise BadImageError(f"cannot be unpacked ({failure})") from None


def open_container(path: Path) -> Container:
    """The archive at `path`, by its name.

    Raises:
        Sf2Error: it cannot be opened, or is no .tar, .tar.gz, .tgz or .zip.
    """
    name = path.name.lower()
    if name.endswith(".zip"):
        return ZipContainer(path)
    if name.endswith((".tar.gz", ".tgz")):
        return GzipTarContainer(path)
    if name.endswith(".tar"):
        return TarContainer(path)
    raise Sf2Error(
        f"SOURCE {path}: not named as an archive: .tar, .tar.gz, .tgz, .zip",
        "Rename or convert it.",
    )


def tar_members(stream: _Stream, path: Path) -> Iterator[Member]:
    """The members of the tar in `stream`; `place` is the offset of the data.

    Args:
        stream: can seek, forward at least.
        path: for messages.

    Raises:
        Sf2Error: it is no tar, or ends before its end mark.
    """
    offset = 0
    try:
        with closing(tarfile.open(fileobj=_ShortReads(stream), mode="r:")) as tar:
            while (info := tar.next()) is not None:
                # tarfile would keep all of them.
                tar.members.clear()  # type: ignore[attr-defined]
                offset = info.offset
                if not info.isdir():
                    yield Member(info.name, _kind(info), info.offset_data, info.size)
            # tarfile takes damage for the end.
            offset = tar.offset
            stream.seek(offset)
            end = stream.read(len(_END))
    except _BROKEN as failure:
        raise _cut(path, offset, str(failure)) from None
    if end != _END:
        raise _cut(path, offset, "no member starts there" if end else "the end mark is missing")


def _kind(info: tarfile.TarInfo) -> Literal["file", "link", "other"]:
    if info.issym() or info.islnk():
        return "link"
    return "file" if info.isreg() and not info.issparse() else "other"


def _cut(path: Path, offset: int, what: str) -> Sf2Error:
    return Sf2Error(
        f"SOURCE {path}: at byte {offset} of the tar: {what}",
        "It was cut short or damaged, or is no tar archive: copy or make it again.",
    )


class _ShortReads(io.RawIOBase):
    """A stream that gives no more at once than a header may have."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
