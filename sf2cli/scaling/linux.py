"""The memory of this machine and of this process, and its cores' work, as Linux tells them."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

from sf2cli.errors import Sf2Error

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """What this process and its children may still take: MemAvailable, less where a cgroup says.

    Raises:
        Sf2Error: not Linux.
    """
    limits = [_field(proc / "meminfo", "MemAvailable")]
    limits += _cgroup_rooms(proc / "self" / "cgroup", cgroups)
    return max(0, min(limits))


def resident_bytes() -> int:
    """What this process holds now."""
    return _field(_PROC / "self" / "status", "VmRSS")


def peak_bytes() -> int:
    """The most this process has held since `reset_peak`, or since it began where that failed."""
    return _field(_PROC / "self" / "status", "VmHWM")


def reset_peak() -> bool:
    """Set the high-water mark to what is held now; False where the kernel does not allow it."""
    try:
        (_PROC / "self" / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def release_unused() -> None:
    """Give freed memory back, so that what is held now is what is in use."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        # Another C library than glibc returns freed memory by itself or not at all.
        return


def busy_seconds(proc: Path = _PROC) -> float:
    """What all cores of the machine together have worked since it started.

    Raises:
        Sf2Error: not Linux.
    """
    try:
        fields = (proc / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _wait, *interrupts = (int(value) for value in fields[1:8])
    except (OSError, ValueError):
        raise Sf2Error(f"{proc}/stat: no cpu line in it", "sf2 scale-test needs Linux.") from None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise Sf2Error(f"{path}: no {name} in it", "sf2 scale-test needs Linux.")


def _cgroup_rooms(membership: Path, root: Path) -> Iterator[int]:
    """What every limit above this process leaves, under version 1 and 2 of cgroups."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            room = _room(place, *names)
            if room is not None:
                yield room
            if place == base:
                break


def _room(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    """Limit less usage, where file pages that the kernel would drop count as free."""
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").split()
        cache = dict(zip(stat[::2], stat[1::2], strict=True)).get(cache_name, "0")
        return int(limit) - usage + int(cache)
    except (OSError, ValueError):
        return None
