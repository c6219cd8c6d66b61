"""From the word on the command line to a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sf2cli.data.sources.att import AttSource
from sf2cli.data.sources.folder import FolderSource
from sf2cli.data.sources.recordio import RecordIoSource
from sf2cli.data.sources.source import Source
from sf2cli.errors import Sf2Error


def find_source(word: str, kind: str | None = None) -> Source:
    """The source that SOURCE names: `att`, a file or a folder (`./att` for one of that name).

    Args:
        word: SOURCE.
        kind: one of KINDS; None looks at what is there.

    Raises:
        Sf2Error: SOURCE is empty, as an unset variable of the shell leaves it.
    """
    if not word:
        raise Sf2Error("SOURCE '': no name", "Name a folder of images, or `att`.")
    return _MAKERS[kind or _kind_of(word)](word)


def _kind_of(word: str) -> str:
    path = Path(word)
    if word == "att":
        return "att"
    if path.suffix == ".rec" or path.name == "property" or (path / "train.rec").is_file():
        return "recordio"
    return "folder"


def _recordio(word: str) -> Source:
    path = Path(word)
    if path.name == "property":
        return RecordIoSource(path.with_name("train.rec"))
    return RecordIoSource(path / "train.rec" if path.is_dir() else path)


_MAKERS: dict[str, Callable[[str], Source]] = {
    "folder": lambda word: FolderSource(Path(word)),
    "att": lambda word: AttSource(),
    "recordio": _recordio,
}
KINDS = tuple(_MAKERS)
