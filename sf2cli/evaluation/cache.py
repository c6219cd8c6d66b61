"""Embeddings that were computed once, found again by what they are a function of.

An entry is the .npy file of the embeddings, followed by the sha256 of it all: numpy reads the one,
and the other tells a file that was cut short or changed. Entries are written beside and renamed,
so processes may share a folder; the least recently used go when a folder outgrows its limit.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.evaluation.embedder import Embedder
from sf2cli.evaluation.pair_set import Faces

FOLDER_VARIABLE = "SF2_CACHE"
_LIMIT_BYTES = 4 << 30
_SUFFIX = ".npy"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Cache:
    """Arrays by their keys in `folder`, of `limit_bytes` in all at most."""

    folder: Path
    limit_bytes: int = _LIMIT_BYTES

    def get(self, key: str) -> NDArray[np.float32] | None:
        """The array of a key; None if there is none, or none that is whole."""
        path = self.folder / f"{key}{_SUFFIX}"
        try:
            data = path.read_bytes()
        except OSError:
            return None
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            return None
        with suppress(OSError):
            os.utime(path)
        found: NDArray[np.float32] = np.load(io.BytesIO(body), allow_pickle=False)
        return found

    def put(self, key: str, array: NDArray[np.float32]) -> None:
        """Keep an array. A folder that cannot be written to is told of, and nothing else."""
        stream = io.BytesIO()
        np.save(stream, array)
        body = stream.getvalue()
        if len(body) > self.limit_bytes:
            return
        beside = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                beside = Path(file.name)
                file.write(body)
                file.write(hashlib.sha256(body).digest())
            beside.replace(self.folder / f"{key}{_SUFFIX}")
        except OSError as failure:
            if beside is not None:
                beside.unlink(missing_ok=True)
            console.warn(f"embeddings not kept in {self.folder} ({failure.strerror})")
            return
        self._shrink()

    def _shrink(self) -> None:
        entries = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            # Another process may have removed it meanwhile.
            with suppress(OSError):
                facts = path.stat()
                entries.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def default_cache() -> Cache:
    """In the folder that SF2_CACHE names, or the user's cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Cache(Path(named) if named else Path(home) / "sf2" / "embeddings")


def embed_once(
    embedder: Embedder, faces: Faces, data_sha256: str, description: str, cache: Cache | None
) -> NDArray[np.float32]:
    """`embedder.embed(faces)`, from the cache if it holds the embeddings of just this.

    Args:
        embedder: what embeds.
        faces: the images.
        data_sha256: a hash of all that decides which images, in which order and form, `faces` has.
        description: of the progress display.
        cache: None neither looks nor keeps.

    Raises:
        Sf2Error: as `Embedder.embed`.
    """
    if cache is None:
        return embedder.embed(faces, description)
    told = f"{embedder.card.fingerprint} {embedder.device} {data_sha256} {len(faces)}"
    key = hashlib.sha256(told.encode()).hexdigest()
    found = cache.get(key)
    if found is None or len(found) != len(faces):
        found = embedder.embed(faces, description)
        cache.put(key, found)
    else:
        console.info(f"{description}: {len(faces)} embeddings from the cache")
    return found
