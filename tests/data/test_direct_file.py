import errno
import fcntl
import gc
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sf2cli.data.direct_file import DirectFile

BUFFER = 1 << 20


def write(path, pieces):
    with ThreadPoolExecutor(1) as thread:
        shard = DirectFile(path, thread)
        try:
            for piece in pieces:
                shard.write(piece)
            return thread.submit(shard.finish).result()
        finally:
            shard.close()


@pytest.mark.parametrize(
    "lengths",
    [[], [1], [512] * 3, [4096], [BUFFER], [BUFFER - 1, 2], [7_000] * 500, [5 * BUFFER + 512]],
)
@pytest.mark.parametrize("direct", [True, False])
def test_the_file_has_what_was_written_and_its_hash(tmp_path, monkeypatch, lengths, direct):
    if not direct:
        real = os.open

        def no_direct(path, flags, *mode):
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(path, flags, *mode)

        monkeypatch.setattr(os, "open", no_direct)
    pieces = [os.urandom(length) for length in lengths]
    sha256 = write(tmp_path / "a.tar", pieces)
    content = (tmp_path / "a.tar").read_bytes()
    assert content == b"".join(pieces)
    assert sha256 == hashlib.sha256(content).hexdigest()


def test_a_write_that_the_disk_takes_in_part_goes_on(tmp_path, monkeypatch):
    real = os.write

    def a_third(file, data):
        return real(file, data[: max(len(data) // 3 // 512 * 512, min(len(data), 512))])

    monkeypatch.setattr(os, "write", a_third)
    pieces = [os.urandom(100_000) for _ in range(30)]
    write(tmp_path / "a.tar", pieces)
    assert (tmp_path / "a.tar").read_bytes() == b"".join(pieces)


def test_a_file_system_that_refuses_direct_writing_at_the_first_write(tmp_path, monkeypatch):
    real, refused = os.write, []

    def cached_only(file, data):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(len(data))
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(file, data)

    monkeypatch.setattr(os, "write", cached_only)
    pieces = [os.urandom(100_000) for _ in range(30)]
    write(tmp_path / "a.tar", pieces)
    assert (tmp_path / "a.tar").read_bytes() == b"".join(pieces)
    assert refused == [BUFFER]


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_full_disk_is_told_and_the_file_closed(tmp_path, monkeypatch, pieces):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    # Files of earlier tests that nobody closed must not be closed meanwhile.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a.tar", [bytes(100_000)] * pieces)
    assert len(os.listdir("/proc/self/fd")) == before
