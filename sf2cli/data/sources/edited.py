"""Any source, without what a list drops, and with the identities that a list merges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.data.edits import load_drop, load_merge
from sf2cli.data.sources.source import Source, SourceIdentity, joined
from sf2cli.errors import Sf2Error


class EditedSource:
    """The images of `source` less those of the file `drop`; `merge` makes several names one.

    Args:
        source: what is edited.
        drop: a list of images and identities; None drops none.
        merge: a list of names that are one person; None merges none.
    """

    def __init__(self, source: Source, drop: Path | None, merge: Path | None) -> None:
        self._source, self._files = source, {"drop": drop, "merge": merge}
        self._drop = load_drop(drop) if drop else set[str]()
        self._kept = load_merge(merge) if merge else dict[str, str]()
        # Of the identities that lose images, the positions of the others.
        self._left: dict[str, list[int]] = {}
        self._groups: dict[str, list[SourceIdentity]] | None = None
        self._done: dict[str, int] = {}

    @property
    def description(self) -> dict[str, Any]:
        files = {option: path.name for option, path in self._files.items() if path}
        return {**self._source.description, "edited": {**files, **self._done}}

    @property
    def places(self) -> list[Path]:
        return [*self._source.places, *(path for path in self._files.values() if path)]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`. A merged identity stands where its first name does.

        Raises:
            Sf2Error: nothing in a list is in the source.
        """
        if self._groups is None:
            self._groups = self._look()
        return self._edited(self._groups)

    def _edited(self, groups: dict[str, list[SourceIdentity]]) -> Iterator[SourceIdentity]:
        done: set[str] = set()
        for identity in self._source.identities():
            kept = self._kept.get(identity.name)
            if kept is None:
                yield self._without(identity)
            elif kept not in done:
                done.add(kept)
                whole = [self._without(one) for one in groups[kept]]
                images = joined([one.images for one in whole])
                ignored = sum(one.ignored for one in whole)
                faults = tuple(fault for one in whole for fault in one.faults)
                yield SourceIdentity(kept, images, ignored, faults)

    def _look(self) -> dict[str, list[SourceIdentity]]:
        """The identities of each group, its kept name's first; what the lists do is counted."""
        groups: dict[str, list[SourceIdentity]] = {}
        found: set[str] = set()
        images = 0
        for identity in self._source.identities():
            count = len(identity.images)
            if self._drop:
                keys = [image.key for image in identity.images]
                listed = self._drop.intersection([*keys, f"{identity.name}/"])
                found.update(listed)
                if f"{identity.name}/" in listed:
                    self._left[identity.name] = []
                elif listed:
                    self._left[identity.name] = [
                        i for i, key in enumerate(keys) if key not in listed
                    ]
            images += count - len(self._left.get(identity.name, range(count)))
            if identity.name in self._kept:
                groups.setdefault(self._kept[identity.name], []).append(identity)
        for group in groups.values():
            group.sort(key=lambda one: one.name != self._kept[one.name])
        merged = sum(len(group) for group in groups.values())
        _compare("--drop", self._files["drop"], len(found), len(self._drop))
        _compare("--merge", self._files["merge"], merged, len(self._kept))
        self._done = {"images_dropped": images, "identities_merged": merged - len(groups)}
        return groups

    def _without(self, identity: SourceIdentity) -> SourceIdentity:
        left = self._left.get(identity.name)
        if left is None:
            return identity
        return replace(identity, images=identity.images.chosen(left))


def _compare(option: str, path: Path | None, found: int, listed: int) -> None:
    """Tell of lines that name nothing in the source: the list may be another set's."""
    if path is None or found == listed:
        return
    what = f"{option} {path}: {listed - found} of its {listed} names are not in SOURCE"
    if not found:
        raise Sf2Error(what, "Name the list that was made for this set.")
    console.warn(what)
