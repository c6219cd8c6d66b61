"""Whether a source is still what an interrupted packing read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sf2cli.errors import Sf2Error


def check_unchanged(places: Iterable[Path], since_ns: int, stage: Path) -> None:
    """Refuse a source in which a file or folder was changed, replaced or removed since.

    By the system's time of change, which no copying or unpacking sets back.

    Args:
        places: the files and folders the source is read from.
        since_ns: when the packing began, in nanoseconds since 1970.
        stage: what that packing left.

    Raises:
        Sf2Error: names the first that changed.
    """
    for path in _all_below(places):
        try:
            changed = os.stat(path).st_ctime_ns > since_ns
        except FileNotFoundError:
            # An index that need not be there; the list of its folder tells of the others.
            continue
        except OSError as failure:
            raise Sf2Error(f"SOURCE {path}: cannot be read ({failure.strerror})") from None
        if changed:
            raise Sf2Error(
                f"SOURCE {path} has changed since the packing began of which {stage} has a part",
                "Begin anew with --restart.",
            )


def _all_below(places: Iterable[Path]) -> Iterator[str]:
    for place in places:
        yield str(place)
        for folder, folders, files in os.walk(place):
            yield from (os.path.join(folder, name) for name in (*folders, *files))
