"""Images in a folder of identities: an image's identity is the folder it lies in.

The name is that folder's path relative to the source: `photos/anna/1.jpg` is `anna`,
`photos/2019/anna/1.jpg` is `2019/anna`. Order: depth first, names by their bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sf2cli.data.sources.source import (
    SUFFIXES,
    SourceIdentity,
    SourceImage,
    SourceImages,
    checked_name,
    ignored_only,
    read_file,
    shown_name,
)
from sf2cli.errors import Sf2Error


class FolderSource:
    """Images under `root`; links are followed, hidden folders passed over.

    Hidden files, other files and images that lie loose in `root` count as ignored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def description(self) -> dict[str, str]:
        return {"kind": "folder", "name": shown_name(self.root)}

    @property
    def places(self) -> list[Path]:
        return [self.root]

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
                found = found or len(identity.images) > 0
                yield identity
            else:
                loose = len(identity.images)
                yield ignored_only(identity.ignored + loose)
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
                files.append(checked_name(base, str(folder)))
            elif not is_folder:
                ignored += 1
        yield SourceIdentity(name, folder_images(name, folder, files), ignored)
        for base in folders:
            below = f"{name}/{base}" if name else base
            yield from self._walk(folder / checked_name(base, str(folder)), below, parents | {here})


def folder_images(name: str, folder: Path, files: Sequence[str]) -> SourceImages:
    """The images in `files` of `folder`, as those of the identity `name`."""

    def image(file: str) -> SourceImage:
        path = folder / file
        return SourceImage(f"{name}/{file}", str(path), lambda: read_file(path))

    return SourceImages(files, image)
