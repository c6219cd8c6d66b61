"""metrics.jsonl: what a run measured, a line of JSON for every step."""

from __future__ import annotations

import json
from pathlib import Path

from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file


class MetricsFile:
    """Appends to metrics.jsonl; the first rank alone has one.

    A line is {"step": n, ...}; readers take the lines that have the field they look for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def cut_after(cls, path: Path, step: int) -> MetricsFile:
        """The file, new or with the lines up to `step`: later ones will be written again.

        Raises:
            OSError: it cannot be read or written.
        """
        kept = ""
        if step and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = "".join(f"{line}\n" for line in lines if _step_of(line) <= step)
        replace_file(path, kept)
        return cls(path)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a line.

        Raises:
            Sf2Error: the disk is full or not writable.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as failure:
            raise Sf2Error(
                f"{self.path}: cannot be written ({failure.strerror})",
                "Free disk space, or choose another folder with --out.",
            ) from None


def _step_of(line: str) -> int:
    """The step of a line; one cut short by a kill counts as lost."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**63
