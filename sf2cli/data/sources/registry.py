"""From the word on the command line to a source."""

from __future__ import annotations

from pathlib import Path

from sf2cli.data.sources.att import AttSource
from sf2cli.data.sources.folder import FolderSource
from sf2cli.data.sources.source import Source
from sf2cli.errors import Sf2Error


def find_source(word: str) -> Source:
    """The source that SOURCE names: `att`, or a folder (`./att` for a folder of that name).

    Raises:
        Sf2Error: SOURCE is empty, as an unset variable of the shell leaves it.
    """
    if not word:
        raise Sf2Error("SOURCE '': no name", "Name a folder of images, or `att`.")
    return AttSource() if word == "att" else FolderSource(Path(word))
