"""Memory and work, read from trees that look like /proc and /sys/fs/cgroup."""

import pytest
import torch

from sf2cli.errors import Sf2Error
from sf2cli.scaling import linux

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
    assert linux.available_bytes(proc, tmp_path / "none") == 20 * GIB


def test_a_limit_above_this_group_counts(tmp_path):
    proc = _proc(tmp_path / "proc", "0::/outer/inner\n")
    sys = tmp_path / "sys"
    _group(sys / "outer" / "inner", V2, ("max", GIB), ("inactive_file", 0))
    _group(sys / "outer", V2, (8 * GIB, 3 * GIB), ("inactive_file", GIB))
    assert linux.available_bytes(proc, sys) == 6 * GIB


def test_version_one(tmp_path):
    proc = _proc(tmp_path / "proc", "4:cpu,cpuacct:/x\n3:memory:/job\n")
    sys = tmp_path / "sys"
    _group(sys / "memory" / "job", V1, (4 * GIB, GIB), ("total_inactive_file", 0))
    assert linux.available_bytes(proc, sys) == 3 * GIB


def test_not_linux(tmp_path):
    with pytest.raises(Sf2Error, match="no MemAvailable"):
        linux.available_bytes(tmp_path, tmp_path)


def test_the_peak_follows_what_was_held_and_is_reset():
    linux.release_unused()
    before = linux.resident_bytes()
    assert linux.reset_peak()
    values = torch.ones(2**26, dtype=torch.uint8)
    assert linux.peak_bytes() - before >= 2**26 - 2**20
    del values
    linux.release_unused()
    assert linux.reset_peak()
    assert linux.peak_bytes() < before + 2**25


def test_the_cores_work(tmp_path):
    # user nice system idle iowait irq softirq steal, in hundredths of a second.
    (tmp_path / "stat").write_text("cpu  100 20 30 4000 500 6 4 9 0 0\ncpu0 1 2 3\n")
    assert linux.busy_seconds(tmp_path) == pytest.approx(1.60)
    (tmp_path / "stat").write_text("nothing")
    with pytest.raises(Sf2Error, match="no cpu line"):
        linux.busy_seconds(tmp_path)
