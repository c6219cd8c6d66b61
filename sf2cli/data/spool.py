"""Shards that lie elsewhere, fetched whole when one is wanted and kept while there is room.

All ranks and workers of a host share the folder: each shard comes once, whoever asks first. A
shard may be removed while others read it; they keep what they have opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sf2cli.data.download import download
from sf2cli.data.shard_files import ShardFiles
from sf2cli.errors import Sf2Error


class Wanted(NamedTuple):
    """What a shard has to be."""

    bytes: int
    sha256: str


class SpooledShards(ShardFiles):
    """Random access into the shards at `urls`.

    Args:
        urls: see `download`.
        folder: where they are kept; made where it is missing.
        room: bytes to keep at most, the last used staying. One shard always fits.
        wanted: what each has to be, where that is known.
        max_open: files open at once; removed ones hold their room until they are closed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        folder: Path,
        room: int,
        wanted: Sequence[Wanted] | None = None,
        max_open: int = 16,
    ) -> None:
        super().__init__([folder / f"{number:06d}.tar" for number in range(len(urls))], max_open)
        self.urls = urls
        self._folder = folder
        self._room = room
        self._wanted = wanted
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.urls, self._folder, self._room, self._wanted, self._max_open)
        return type(self), arguments

    def expect(self, files: Sequence[int]) -> None:
        """Fetch these in the background, unless that is still busy with earlier ones."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._fetch_all, args=(files,), daemon=True)
            self._thread.start()

    def fetch(self, file: int) -> Path:
        """Where a shard lies, fetched if need be.

        Raises:
            Sf2Error: it cannot be had, or is not what is wanted.
        """
        os.close(self._opened(file))
        return self._paths[file]

    def _fetch_all(self, files: Sequence[int]) -> None:
        try:
            for file in files:
                self.fetch(file)
        except (Sf2Error, OSError):
            # Whoever needs the shard will meet the same, and says so.
            return

    def _opened(self, file: int) -> int:
        path = self._paths[file]
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                self._download(file, path)
            # The time of its last use, by which the others go first.
            os.utime(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._make_room()
        return descriptor

    def _download(self, file: int, path: Path) -> None:
        partial = path.with_suffix(".partial")
        try:
            with partial.open("w+b") as stream:
                download(self.urls[file], stream)
                self._check(file, stream)
            partial.rename(path)
        except OSError as failure:
            raise Sf2Error(
                f"{partial} cannot be written ({failure.strerror})",
                "Free disk space, or name another folder as data.cache.",
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    def _check(self, file: int, stream: BinaryIO) -> None:
        if self._wanted is None:
            return
        stream.seek(0)
        found = Wanted(os.fstat(stream.fileno()).st_size, sha256_of(stream))
        if found != self._wanted[file]:
            raise Sf2Error(
                f"data.shards {self.urls[file]}: {found.bytes} bytes of sha256"
                f" {found.sha256[:12]}..., where the index says {self._wanted[file].bytes} of"
                f" {self._wanted[file].sha256[:12]}...",
                f"If the shards were made anew, remove {self._folder.parent}; it is made again.",
            )

    def _make_room(self) -> None:
        kept = []
        for path in self._folder.glob("*.tar"):
            try:
                stat = path.stat()
            except OSError:
                continue
            kept.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept)[:-1]:
            if total <= self._room:
                return
            with locked(path.with_suffix(".lock"), wait=False) as mine:
                if mine:
                    path.unlink(missing_ok=True)
                    total -= size


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock that `path` stands for, against other processes and threads.

    Yields:
        Whether it is held; always, if `wait`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def sha256_of(stream: BinaryIO) -> str:
    """The sha256 of the rest of a file, in hex."""
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 22):
        digest.update(chunk)
    return digest.hexdigest()
