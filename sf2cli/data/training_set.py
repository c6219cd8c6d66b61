"""What `data.shards` of a recipe names, opened for training.

A packed set's folder is read where it lies. Other tars are scanned once, their index being kept
in the cache. Shards of URLs and pipes are fetched whole, each when its turn comes; a packed set's
manifest and index are fetched from beside them, and any others are scanned once from end to end.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from braceexpand import braceexpand

from sf2cli import console
from sf2cli.data.download import PIPE, NotThereError, download, is_remote
from sf2cli.data.manifest import (
    INDEX_NAME,
    MANIFEST_NAME,
    SOURCES_NAME,
    Manifest,
    load_manifest,
)
from sf2cli.data.packed import PackedSet
from sf2cli.data.scan import ScannedShard, scan_shards
from sf2cli.data.shard_files import ShardFiles
from sf2cli.data.spool import SpooledShards, Wanted, locked
from sf2cli.errors import Sf2Error


def open_training_set(word: str, cache: Path | None, room: int, window: int) -> PackedSet:
    """Open the set that `word` names.

    Args:
        word: a packed set's folder, a folder of tars, tars by braces, the URL of a packed set, or
            URLs or `pipe:` commands of tars by braces.
        cache: for indexes and fetched shards; default `sf2` in XDG_CACHE_HOME or ~/.cache.
        room: bytes of fetched shards to keep.
        window: how many fetched shards are shuffled together.

    Raises:
        Sf2Error: nothing there, or it cannot be read as a set.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sf2"
    cache = (cache or default).absolute()
    if is_remote(word):
        return _open_remote(word, cache, room, window)
    folder = Path(word)
    if folder.is_dir() and not (folder / MANIFEST_NAME).exists():
        tars = sorted(folder.glob("*.tar"))
        if tars:
            return _open_tars(word, tars, cache)
    elif word.endswith(".tar") or "{" in word:
        return _open_tars(word, [Path(name) for name in _expanded(word)], cache)
    return PackedSet.open(folder)


def _open_tars(word: str, tars: Sequence[Path], cache: Path) -> PackedSet:
    stats = []
    for tar in tars:
        try:
            stats.append(tar.stat())
        except OSError as failure:
            raise Sf2Error(
                f"data.shards {word}: {tar} cannot be read ({failure.strerror})",
                "Name a packed set's folder, or tars that are there.",
            ) from None
    # A tar that changes is another one.
    told = [
        f"{tar.absolute()} {stat.st_size} {stat.st_mtime_ns}"
        for tar, stat in zip(tars, stats, strict=True)
    ]
    scanned = [ScannedShard(str(tar), tar.name, partial(Path, tar), _names(tar)) for tar in tars]
    title = f"shards {word}"
    return _indexed(
        cache / "index" / _digest(told),
        lambda folder: scan_shards(scanned, folder, _name_of(tars[0].name)),
        lambda folder, manifest: PackedSet.open_index(folder, manifest, ShardFiles(tars), title),
    )


def _open_remote(word: str, cache: Path, room: int, window: int) -> PackedSet:
    urls = _expanded(word)
    if not word.startswith(PIPE):
        if not urllib.parse.urlsplit(urls[0]).path.endswith(".tar"):
            return _open_published(word, word.rstrip("/"), None, cache, room, window)
        base = urls[0].rpartition("/")[0]
        try:
            return _open_published(word, base, urls, cache, room, window)
        except NotThereError:
            pass
    place = cache / "remote" / _digest(urls)
    shards = SpooledShards(urls, place / "shards", room, max_open=window)
    scanned = [
        ScannedShard(url, f"{number:06d}.tar", partial(shards.fetch, number), hashed=True)
        for number, url in enumerate(urls)
    ]

    def make(folder: Path) -> None:
        console.info(
            f"data.shards {word}: no manifest beside them; they are read once for an index"
        )
        scan_shards(scanned, folder, _name_of(urls[0]))

    return _indexed(
        place / "index",
        make,
        lambda folder, manifest: _spooled(word, folder, manifest, urls, room, window),
    )


def _open_published(
    word: str, base: str, urls: list[str] | None, cache: Path, room: int, window: int
) -> PackedSet:
    """A packed set that lies at the URL `base`.

    Raises:
        NotThereError: no manifest there, or it names other shards than `urls`.
    """
    incoming = cache / "remote"
    incoming.mkdir(parents=True, exist_ok=True)
    fetched = incoming / f".manifest-{os.getpid()}"
    try:
        _fetch(f"{base}/{MANIFEST_NAME}", fetched)
        content = fetched.read_bytes()
    finally:
        fetched.unlink(missing_ok=True)
    place = incoming / _digest([base, hashlib.sha256(content).hexdigest()])

    def make(folder: Path) -> None:
        (folder / MANIFEST_NAME).write_bytes(content)
        load_manifest(folder)
        for name in (INDEX_NAME, SOURCES_NAME):
            _fetch(f"{base}/{name}", folder / name)

    def opened(folder: Path, manifest: Manifest) -> PackedSet:
        named = [f"{base}/{urllib.parse.quote(shard.file)}" for shard in manifest.shards]
        if urls is not None and urls != named:
            raise NotThereError(f"data.shards {word}: {base}/{MANIFEST_NAME} names other shards")
        return _spooled(word, folder, manifest, named, room, window)

    return _indexed(place / "index", make, opened)


def _spooled(
    word: str, folder: Path, manifest: Manifest, urls: list[str], room: int, window: int
) -> PackedSet:
    biggest = sum(sorted((shard.bytes for shard in manifest.shards), reverse=True)[: 2 * window])
    if biggest > room:
        raise Sf2Error(
            f"data.shards {word}: {2 * window} of its shards take {biggest / 1e9:.2f} GB, and"
            f" data.cache_gb is {room / 1e9:g}: those shuffled together and the next ones must fit",
            "Raise data.cache_gb, or lower data.shuffle_shards.",
        )
    wanted = [Wanted(shard.bytes, shard.sha256) for shard in manifest.shards]
    shards = SpooledShards(urls, folder.parent / "shards", room, wanted, max_open=window)
    return PackedSet.open_index(folder, manifest, shards, f"shards {word}", window)


def _indexed(
    folder: Path,
    make: Callable[[Path], None],
    opened: Callable[[Path, Manifest], PackedSet],
) -> PackedSet:
    """The set whose index lies in `folder`, made there if it is missing or damaged.

    One process makes it and others wait; it appears whole or not at all.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock")):
            try:
                return opened(folder, load_manifest(folder))
            except NotThereError:
                raise
            except Sf2Error:
                if folder.exists() and _intact(folder):
                    raise
            shutil.rmtree(folder, ignore_errors=True)
            beside = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            try:
                make(beside)
                beside.rename(folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            return opened(folder, load_manifest(folder))
    except OSError as failure:
        raise Sf2Error(
            f"cache {folder}: cannot be written ({failure.strerror})",
            "Name a folder with room as data.cache in the recipe.",
        ) from None


def _intact(folder: Path) -> bool:
    try:
        PackedSet.open_index(folder, load_manifest(folder))
    except Sf2Error:
        return False
    return True


def _fetch(url: str, path: Path) -> None:
    with path.open("w+b") as stream:
        download(url, stream)


def _names(tar: Path) -> list[str] | None:
    """The names of class ids, if a tar is a shard of the packed set in its folder."""
    if not (tar.parent / MANIFEST_NAME).is_file():
        return None
    manifest = _manifest(tar.parent)
    known = any(shard.file == tar.name for shard in manifest.shards)
    return manifest.identities if known else None


# Of a thousand shards of one set, one after the other.
_manifest = lru_cache(maxsize=1)(load_manifest)


def _expanded(word: str) -> list[str]:
    try:
        names = list(braceexpand(word))
    except ValueError as failure:
        raise Sf2Error(f"data.shards {word}: {failure}", "Write braces as in {00..12}.") from None
    if len(set(names)) < len(names):
        raise Sf2Error(f"data.shards {word}: a shard is named twice")
    return names


def _name_of(file: str) -> str:
    """The tars' common name: `faces` of `faces-000000.tar`."""
    stem = file.rpartition("/")[2].removesuffix(".tar")
    return re.sub(r"[-_.]?\d*$", "", stem) or "shards"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
