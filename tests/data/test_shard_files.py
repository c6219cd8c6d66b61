import os

import pytest

from sf2cli.data.shard_files import ShardFiles


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{i}.tar" for i in range(5)]
    for i, path in enumerate(made):
        path.write_bytes(bytes([i]) * 10)
    return made


def open_now(paths):
    """How many of the files this process has open."""
    opened = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    names = [os.readlink(place) for place in opened if os.path.lexists(place)]
    return sum(names.count(str(path)) for path in paths)


def test_reads_ranges_with_few_files_open(paths):
    files = ShardFiles(paths, max_open=2)
    for file in (0, 1, 2, 1, 4, 0, 3):
        assert files.read(file, 3, 4) == bytes([file]) * 4
        assert 0 < open_now(paths) <= 2
    assert files.read(0, 8, 4) == b"\0\0"
    del files
    assert open_now(paths) == 0


def test_a_missing_file_is_an_os_error(paths):
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        ShardFiles(paths).read(1, 0, 1)
