"""metrics.jsonl: what a run measured, a line of JSON for every step and every checkpoint."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from sf2cli import console
from sf2cli.files import replace_file, sync


class MetricsFile:
    """Appends to metrics.jsonl; the first rank alone has one.

    A line is {"step": n, ...}; readers take the lines that have the field they look for. While the
    disk is full lines wait in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = b""
        # The thread that writes checkpoints calls `sync`.
        self._lock = threading.Lock()

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

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line; one that cannot be written now is kept for later, with a warning."""
        with self._lock:
            self._append(step, values)

    def _append(self, step: int, values: Mapping[str, float]) -> None:
        waiting = bool(self._pending)
        self._pending += (json.dumps({"step": step, **values}) + "\n").encode()
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                # A full disk takes the first part of a line.
                while self._pending:
                    self._pending = self._pending[os.write(descriptor, self._pending) :]
            finally:
                os.close(descriptor)
        except OSError as failure:
            if not waiting:
                console.warn(
                    f"{self.path}: cannot be written ({failure.strerror}); its lines are kept in"
                    " memory until it can"
                )

    def sync(self) -> None:
        """Wait until what was logged is on the disk.

        Raises:
            OSError: a part of it cannot be written.
        """
        with self._lock:
            if self._pending:
                raise OSError(errno.ENOSPC, f"{self.path.name} is not written")
            sync(self.path)


def _step_of(line: str) -> int:
    """The step of a line; one cut short by a kill counts as lost."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**63
