"""Existing WebDataset shards, packed anew: one set or several, with their identities' names.

SOURCE is the folder of a packed set, a folder of tars, a tar, or tars by braces as in
`faces-{000000..000123}.tar`; `::` joins several of these. Where there is no manifest an
identity is named by its label.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from braceexpand import braceexpand

from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.sources.shard_sets import PackedShards, PlainShards, ShardSet
from sf2cli.data.sources.source import SourceIdentity, SourceImage, SourceImages, ignored_only
from sf2cli.errors import Sf2Error

SameNames = Literal["merge", "apart"]


class WebDatasetSource:
    """The images of the shards that `word` names.

    Args:
        word: SOURCE.
        same_names: a name that is in several sets is one identity, or gets the set's name in
            front, as all names do then; None refuses it.
    """

    def __init__(self, word: str, same_names: SameNames | None) -> None:
        self._same_names = same_names
        self._sets = [one for piece in word.split("::") for one in _open_piece(piece)]
        self._titles = [one.title for one in self._sets]
        if same_names == "apart" and len(set(self._titles)) < len(self._titles):
            raise Sf2Error(
                f"--same-names apart: two sets of {', '.join(self._titles)} have one name",
                "Rename the tars or the folder of one.",
            )

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "webdataset", "sets": self._titles, "same_names": self._same_names}

    @property
    def places(self) -> list[Path]:
        return [place for one in self._sets for place in one.places]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: a name is in several sets, and what that means was not said.
        """
        # Rows of all sets in a line: the first of each set.
        starts = [0]
        found: dict[str, list[tuple[int, np.ndarray[Any, Any]]]] = {}
        for number, one in enumerate(self._sets):
            count = 0
            for name, rows in one.identities():
                called = f"{self._titles[number]}/{name}" if self._apart else name
                found.setdefault(called, []).append((number, rows + starts[-1]))
                count = max(count, int(rows.max()) + 1)
            starts.append(starts[-1] + count)
        if self._same_names is None:
            self._check_distinct({name: [at for at, _ in parts] for name, parts in found.items()})
        faults = [fault for one in self._sets for fault in one.faults]
        yield ignored_only(sum(one.ignored for one in self._sets), faults)

        def image(row: int) -> SourceImage:
            number = bisect_right(starts, row) - 1
            picture = self._sets[number].image(int(row) - starts[number])
            if not self._apart:
                return picture
            key = f"{self._titles[number]}/{picture.key}"
            return SourceImage(key, picture.place, picture.read)

        for name, parts in found.items():
            rows = np.concatenate([rows for _, rows in parts])
            yield SourceIdentity(name, SourceImages(rows, image))

    @property
    def _apart(self) -> bool:
        return self._same_names == "apart"

    def _check_distinct(self, found: dict[str, list[int]]) -> None:
        shared = [name for name, sets in found.items() if len(sets) > 1]
        if shared:
            first, second, *_ = (self._titles[number] for number in found[shared[0]])
            raise Sf2Error(
                f"SOURCE: {len(shared)} names are in several sets, {shared[0]!r} in {first} and"
                f" in {second}",
                "Say --same-names merge if they are the same people, --same-names apart if not.",
            )


def _open_piece(piece: str) -> list[ShardSet]:
    """The sets of one piece between `::`: its tars are one, each folder is one."""
    sets: list[ShardSet] = []
    tars: list[Path] = []
    for path in _paths(piece):
        if not path.is_dir():
            _check_tar(path)
            tars.append(path)
        elif (path / MANIFEST_NAME).exists():
            sets.append(PackedShards(path))
        else:
            inside = sorted(path.glob("*.tar"))
            if not inside:
                raise Sf2Error(
                    f"SOURCE {path}: neither {MANIFEST_NAME} nor .tar files in it",
                    "Name a packed set, or a folder of tars.",
                )
            sets.append(PlainShards(inside))
    twice = [str(path) for path, count in Counter(tars).items() if count > 1]
    if twice:
        raise Sf2Error(f"SOURCE: {twice[0]} is named twice")
    return [*sets, PlainShards(tars)] if tars else sets


def _paths(piece: str) -> Iterator[Path]:
    if not piece:
        raise Sf2Error("SOURCE: nothing before or after a `::`", "Name a set on both sides.")
    if "://" in piece or piece.startswith("pipe:"):
        raise Sf2Error(
            f"SOURCE {piece}: not on this machine's disks", "Download the shards and name them."
        )
    if os.path.exists(piece):
        yield Path(piece)
        return
    try:
        for name in braceexpand(piece):
            if not os.path.exists(name):
                raise Sf2Error(f"SOURCE {name}: no such file or folder", "Name what is there.")
            yield Path(name)
    except ValueError as failure:
        raise Sf2Error(f"SOURCE {piece}: {failure}", "Write braces as in '{00..12}'.") from None


def _check_tar(path: Path) -> None:
    if path.suffix != ".tar":
        raise Sf2Error(
            f"SOURCE {path}: shards are .tar files",
            "Decompress it with gunzip." if path.suffix == ".gz" else "Name tars of samples.",
        )


def names_shards(word: str) -> bool:
    """Whether SOURCE is written as only shards are: with `::`, braces or a protocol."""
    written = "::" in word or "://" in word or word.startswith("pipe:") or "{" in word
    return written and not os.path.exists(word)


def is_shard_folder(path: Path) -> bool:
    """Whether a folder is a packed set, or has tars and no folders of identities in it."""
    if (path / MANIFEST_NAME).is_file():
        return True
    try:
        inside = list(path.iterdir())
    except OSError:
        return False
    return any(one.suffix == ".tar" for one in inside) and not any(one.is_dir() for one in inside)
