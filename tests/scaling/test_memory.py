"""Available memory, read from trees that look like /proc and /sys/fs/cgroup."""

import pytest
import torch

from sf2cli.errors import Sf2Error
from sf2cli.scaling import memory

GIB = 2**30


def _proc(folder, membership):
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {20 * GIB // 1024} kB\n")
    (folder / "self" / "cgroup").write_text(membership)
    return folder


def _group(folder, names, values, cache):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, values, strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 7\n{cache[0]} {cache[1]}\n")


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_the_machine_alone(tmp_path):
    proc = _proc(tmp_path / "proc", "0::/\n")
    assert memory.available_bytes(proc, tmp_path / "none") == 20 * GIB


def test_a_limit_above_this_group_counts(tmp_path):
    proc = _proc(tmp_path / "proc", "0::/outer/inner\n")
    sys = tmp_path / "sys"
    _group(sys / "outer" / "inner", V2, ("max", GIB), ("inactive_file", 0))
    _group(sys / "outer", V2, (8 * GIB, 3 * GIB), ("inactive_file", GIB))
    assert memory.available_bytes(proc, sys) == 6 * GIB


def test_version_one(tmp_path):
    proc = _proc(tmp_path / "proc", "4:cpu,cpuacct:/x\n3:memory:/job\n")
    sys = tmp_path / "sys"
    _group(sys / "memory" / "job", V1, (4 * GIB, GIB), ("total_inactive_file", 0))
    assert memory.available_bytes(proc, sys) == 3 * GIB


def test_not_linux(tmp_path):
    with pytest.raises(Sf2Error, match="no MemAvailable"):
        memory.available_bytes(tmp_path, tmp_path)


def test_the_peak_follows_what_was_held_and_is_reset():
    memory.release_unused()
    before = memory.resident_bytes()
    assert memory.reset_peak()
    values = torch.ones(2**26, dtype=torch.uint8)
    assert memory.peak_bytes() - before >= 2**26 - 2**20
    del values
    memory.release_unused()
    assert memory.reset_peak()
    assert memory.peak_bytes() < before + 2**25
