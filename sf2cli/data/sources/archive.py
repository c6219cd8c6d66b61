"""A tar or zip of folders of identities, read without unpacking it to disk.

Names and order are those of the folder that was archived: `photos.tar` of `photos/anna/1.jpg`
has the identity `anna`, the one folder that all else lies in being left out. A .tar.gz can only
be read from the front to the back: its identities and images are in the order of the archive.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.data.sources.containers import Member, open_container
from sf2cli.data.sources.grouping import Names, Strings, rows_by_label
from sf2cli.data.sources.source import (
    SUFFIXES,
    SourceFault,
    SourceIdentity,
    SourceImage,
    SourceImages,
    checked_name,
    ignored_only,
    shown_name,
    source_fault,
)
from sf2cli.errors import Sf2Error

_BATCH = 1024


@dataclass
class _Table:
    """The images: the number of the folder, the base name, and the place in the archive."""

    folders: Names = field(default_factory=Names)
    labels: array[int] = field(default_factory=lambda: array("i"))
    files: Strings = field(default_factory=Strings)
    places: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    ignored: int = 0
    loose: int = 0
    faults: list[SourceFault] = field(default_factory=list)


class ArchiveSource:
    """The images in the archive at `path`.

    Hidden files, other files and loose images count as ignored, hidden folders are passed over.
    Links, names that lead out of it, and all after a cut are faults; of a member that is in it
    twice the last one counts, as when it is unpacked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = open_container(path)

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "archive", "name": shown_name(self.path)}

    @property
    def places(self) -> list[Path]:
        return [self.path]

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: it cannot be read, or no image in a folder can.
        """
        return self._identities(self._table)

    def _identities(self, table: _Table) -> Iterator[SourceIdentity]:
        folders = list(table.folders)
        names = _without_common_top(folders)
        rows = [rows for _, rows in rows_by_label(table.labels)]
        order = list(range(len(names)))
        if not self._container.in_order:
            order.sort(key=lambda i: [part.encode() for part in names[i].split("/")])
        yield ignored_only(table.ignored + table.loose, table.faults)
        for i in order:
            last = {table.files[row]: row for row in rows[i].tolist()}
            twice = Counter(table.files[row] for row in rows[i]) - Counter(last.keys())
            faults = tuple(self._twice(f"{folders[i]}/{file}") for file in twice.elements())
            listed = sorted(last.values())
            if not self._container.in_order:
                listed.sort(key=lambda row: table.files[row].encode())
            images = self._images(folders[i], names[i], listed)
            yield SourceIdentity(names[i], images, faults=faults)

    def _twice(self, name: str) -> SourceFault:
        error = Sf2Error(
            f"SOURCE {self.path}: {name} is in it twice", "Make the archive anew, without --append."
        )
        return source_fault(name, error)

    def _images(self, folder: str, name: str, rows: list[int]) -> SourceImages:
        table = self._table

        def image(row: int) -> SourceImage:
            file, place, size = table.files[row], table.places[row], table.sizes[row]
            return SourceImage(
                f"{name}/{file}",
                f"{self.path} member {folder}/{file}",
                lambda: self._container.read(place, size),
            )

        return SourceImages(rows, image)

    @cached_property
    def _table(self) -> _Table:
        table = _Table()
        with console.progress(f"read {self.path.name}", None, unit="members") as line:
            try:
                for done, member in enumerate(self._container.members(), 1):
                    try:
                        self._add(table, member)
                    except Sf2Error as failure:
                        table.faults.append(source_fault(member.name, failure))
                    if done % _BATCH == 0:
                        line.advance(_BATCH)
            except Sf2Error as failure:
                table.faults.append(source_fault(self.path.name, failure))
        if not table.labels:
            if table.faults:
                raise table.faults[0].error
            raise Sf2Error(
                f"SOURCE {self.path}: {table.loose} images, but none in a folder of an identity"
                if table.loose
                else f"SOURCE {self.path}: no image in it (sought: {', '.join(SUFFIXES)})",
                "Give every identity a folder with its images: anna/1.jpg.",
            )
        return table

    def _add(self, table: _Table, member: Member) -> None:
        self._check(member)
        *folders, base = (part for part in member.name.split("/") if part not in ("", "."))
        if any(folder.startswith(".") for folder in folders):
            return
        if base.startswith(".") or not base.lower().endswith(SUFFIXES):
            table.ignored += 1
        elif not folders:
            table.loose += 1
        else:
            table.labels.append(table.folders.number("/".join(folders)))
            table.files.append(base)
            table.places.append(member.place)
            table.sizes.append(member.size)

    def _check(self, member: Member) -> None:
        name = checked_name(member.name, str(self.path))
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or parts[-1] in ("", "."):
            raise Sf2Error(
                f"SOURCE {self.path}: the name {name!r} leads out of the archive",
                "Make it anew from within the folder of the images: tar -cf FILE .",
            )
        if member.kind != "file":
            what = "a link" if member.kind == "link" else "neither file nor folder"
            raise Sf2Error(
                f"SOURCE {self.path}: {name} is {what}",
                "Make the archive anew with tar --dereference --hard-dereference."
                if member.kind == "link"
                else "Remove it from the archive.",
            )


def _without_common_top(folders: list[str]) -> list[str]:
    """The names, without the one folder that all other folders lie in."""
    top = folders[0].partition("/")[0] + "/"
    if all(folder.startswith(top) for folder in folders):
        return [folder.removeprefix(top) for folder in folders]
    return folders
