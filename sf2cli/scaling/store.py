"""Finished measurements in the report folder, so that a run cut off goes on where it was.

One file a measurement in OUT/points, named after its settings and the machine; whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from sf2cli.errors import Sf2Error

T = TypeVar("T", bound=BaseModel)


def write_whole(path: Path, text: str | bytes) -> None:
    """Write `path` so that it is there whole or not at all.

    Raises:
        Sf2Error: the folder cannot be made or written to.
    """
    beside = path.with_name(f".{path.name}-partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(text.encode() if isinstance(text, str) else text)
        beside.replace(path)
    except OSError as failure:
        raise Sf2Error(
            f"--out: {path} cannot be written ({failure.strerror})",
            "Choose a folder that can be written to.",
        ) from None


def processor() -> str:
    """The name of this machine's processor."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return model


def machine() -> dict[str, Any]:
    """What measurements depend on beside their settings."""
    versions = {}
    for package in ("torch", "sf2"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return {"processor": processor(), "host": platform.node(), **versions}


class Store:
    """The measurements of a report folder, or none where there is no folder.

    Args:
        folder: the report folder, or None to keep nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / "points"
        self._machine = json.dumps(machine(), sort_keys=True)

    def find(self, name: str, settings: str, kind: type[T]) -> T | None:
        """What was saved for these settings on this machine, or None.

        Raises:
            Sf2Error: a file that is not what `save` wrote.
        """
        path = self._path(name, settings)
        if path is None or not path.exists():
            return None
        try:
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as failure:
            reason = str(failure).splitlines()[0]
            raise Sf2Error(
                f"{path}: not a finished measurement ({reason})", "Delete it to measure it again."
            ) from None

    def save(self, name: str, settings: str, value: BaseModel) -> None:
        """Keep `value` for these settings."""
        path = self._path(name, settings)
        if path is not None:
            write_whole(path, value.model_dump_json(indent=1) + "\n")

    def _path(self, name: str, settings: str) -> Path | None:
        if self._folder is None:
            return None
        digest = hashlib.sha256(f"{self._machine}\n{settings}".encode()).hexdigest()[:12]
        stem = "".join(c if c.isalnum() or c in "-." else "_" for c in name)
        return self._folder / f"{stem}-{digest}.json"
