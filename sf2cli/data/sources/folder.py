"""Images in a folder of identities: an image's identity is the folder it lies in.

The name is that folder's path relative to the source: `photos/anna/1.jpg` is `anna`,
`photos/2019/anna/1.jpg` is `2019/anna`. Order: depth first, names by their bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sf2cli.data.sources.source import SourceIdentity
from sf2cli.errors import Sf2Error

SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".pnm", ".bmp", ".webp")


class FolderSource:
    """Images under `root`; links are followed, hidden folders passed over.

    Hidden files, other files and images that lie loose in `root` count as ignored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def description(self) -> dict[str, str]:
        name = os.fsencode(self.root.absolute().name).decode("utf-8", "replace")
        return {"kind": "folder", "name": name}

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: no such folder, no identity in it, an unreadable folder, a link that leads
                back into its own parents, or a name that is not UTF-8 or holds a line break.
        """
        if not os.path.isdir(self.root):
            what = "not a folder" if os.path.exists(self.root) else "no such folder"
            raise Sf2Error(f"SOURCE {self.root}: {what}", "Name a folder of images, or `att`.")
        loose, found = 0, False
        for identity in self._walk(self.root, "", frozenset()):
            if identity.name:
                found = found or bool(identity.files)
                yield identity
            else:
                loose = len(identity.files)
                yield SourceIdentity("", self.root, (), identity.ignored + loose)
        if not found:
            raise Sf2Error(
                f"SOURCE {self.root}: {loose} images, but none in a sub-folder of an identity"
                if loose
                else f"SOURCE {self.root}: no image in it (sought: {', '.join(SUFFIXES)})",
                "Give every identity a sub-folder with its images: SOURCE/anna/1.jpg.",
            )

    def _walk(
        self, folder: Path, name: str, parents: frozenset[tuple[int, int]]
    ) -> Iterator[SourceIdentity]:
        try:
            place = folder.stat()
            with os.scandir(folder) as entries:
                names = sorted(
                    (os.fsencode(entry.name), entry.name, entry.is_dir()) for entry in entries
                )
        except OSError as failure:
            raise Sf2Error(f"SOURCE: {folder} cannot be read ({failure.strerror})") from None
        here = (place.st_dev, place.st_ino)
        if here in parents:
            raise Sf2Error(
                f"SOURCE: the link {folder} leads back to a folder above it", "Remove the link."
            )
        files: list[str] = []
        ignored = 0
        folders: list[str] = []
        for _, base, is_folder in names:
            if is_folder and not base.startswith("."):
                folders.append(base)
            elif not is_folder and base.lower().endswith(SUFFIXES) and not base.startswith("."):
                files.append(_checked(base, folder))
            elif not is_folder:
                ignored += 1
        yield SourceIdentity(name, folder, tuple(files), ignored)
        for base in folders:
            below = f"{name}/{base}" if name else base
            yield from self._walk(folder / _checked(base, folder), below, parents | {here})


def _checked(base: str, folder: Path) -> str:
    try:
        base.encode("utf-8")
    except UnicodeEncodeError:
        raise Sf2Error(
            f"SOURCE: in {str(folder)!r} the name {os.fsencode(base)!r} is not UTF-8", "Rename it."
        ) from None
    if "\n" in base:
        raise Sf2Error(f"SOURCE: in {folder} the name {base!r} holds a line break", "Rename it.")
    return base
