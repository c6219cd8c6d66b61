import gc
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sf2cli.data.augment import Augment
from sf2cli.data.degrade import Degrade
from sf2cli.data.fetch import BatchFetcher, Changes, Request
from sf2cli.data.order import spares
from sf2cli.errors import Sf2Error
from tests.pictures import noise, stored, write_set

UNCHANGED = Changes(0, Augment(), Degrade())


class Odd:
    """A packed set that cannot read sample 1, and whose sample 2 ends the process."""

    def decode_into(self, i, out):
        if i == 1:
            raise Sf2Error("bad", "mend it")
        if i == 2:
            os._exit(9)
        out[:] = 0

    def label(self, i):
        return i


@pytest.fixture
def packed(tmp_path):
    return write_set(tmp_path / "set", [[stored(noise(8, 8, seed=i)) for i in range(6)]])


def request(*indices):
    return Request(np.array(indices), np.zeros(len(indices), dtype=np.bool_), epoch=0)


def told(packed, workers, *samples):
    """How many batches of one sample came, and what the user reads then.

    Nothing is left of the error itself: pytest would keep it, and the workers with it.
    """
    count = 0
    try:
        for _ in BatchFetcher(packed, 8, 3, workers, UNCHANGED).fetch(request(i) for i in samples):
            count += 1
    except Sf2Error as failure:
        return count, str(failure)
    return count, ""


def damage(packed, i):
    """Overwrite the first bytes of sample `i` in its tar."""
    shard, offset, _, _ = np.load(packed.folder / "index.npy")[i]
    with (packed.folder / packed.manifest.shards[shard].file).open("r+b") as tar:
        tar.seek(offset)
        tar.write(b"????")


@pytest.mark.parametrize("workers", [0, 1])
def test_another_is_read_in_place_of_a_damaged_sample(packed, workers):
    damage(packed, 4)
    fetcher = BatchFetcher(packed, 8, 3, workers, UNCHANGED)
    one, two = fetcher.fetch([request(0, 1), request(4, 5)])
    assert one.bad == {}
    assert list(two.bad) == [4]
    assert re.search(r"sample 000000004 of set-000000\.tar \(id0/4\): not a JPEG", two.bad[4])
    spare = next(i for i in spares(6, 0, 0, 4, 9).tolist() if i != 4)
    for image, i in zip(two.images, (spare, 5), strict=True):
        assert (image.permute(1, 2, 0).numpy() == packed.decode(i, 8, 3)).all()


def test_a_set_that_is_damaged_all_through_ends(packed):
    for i in range(6):
        damage(packed, i)
    count, message = told(packed, 0, 0)
    assert count == 0
    assert "sample 000000000" in message
    assert "100 others" in message


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_gone_is_told_as_the_user_needs_it(packed, workers):
    (packed.folder / packed.manifest.shards[0].file).unlink()
    count, message = told(packed, workers, 0)
    assert count == 0
    assert re.search(r"sample 000000000 .* cannot be read \(No such file", message)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("sample", [1, 2])
def test_workers_end_with_the_error(sample):
    """Without the garbage collector, which closes their pipes first and then waits for them."""
    before = multiprocessing.active_children()
    gc.disable()
    try:
        assert told(Odd(), 2, 0, sample, 0)[1]
        assert multiprocessing.active_children() == before
    finally:
        gc.enable()


def test_a_worker_that_is_killed_is_told_when_a_batch_is_wanted(packed):
    others = multiprocessing.active_children()
    batches = BatchFetcher(packed, 8, 3, 1, UNCHANGED).fetch(request(0) for _ in range(10**6))
    next(batches)
    (worker,) = (one for one in multiprocessing.active_children() if one not in others)
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()
    # Not where this happens to be.
    time.sleep(0.2)
    with pytest.raises(Sf2Error, match=r"a data-loading process died: DataLoader") as failure:
        list(batches)
    assert "/dev/shm" in str(failure.value.remedy)
    # A stall would last for ever.
    assert time.monotonic() - began < 30


def read_for_ever(packed, told):
    batches = BatchFetcher(packed, 8, 3, 2, UNCHANGED).fetch(request(0) for _ in range(10**6))
    next(batches)
    told.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(60)


def test_workers_end_when_their_rank_is_killed(packed):
    here, there = multiprocessing.Pipe(duplex=False)
    rank = multiprocessing.get_context("fork").Process(target=read_for_ever, args=(packed, there))
    rank.start()
    workers = here.recv()
    assert len(workers) == 2
    rank.kill()
    rank.join()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(pid):
    """Whether a process is there and not only its exit status."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class _Hangs(Odd):
    """A set on a disk that does not answer."""

    def decode_into(self, i, out):
        time.sleep(100 if i else 0)
        out[:] = 0


def test_a_worker_that_hangs_does_not_outlive_the_loader(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    before = multiprocessing.active_children()
    fetcher = BatchFetcher(_Hangs(), 8, 3, 1, UNCHANGED)
    batches = fetcher.fetch([request(0), request(1)])
    next(batches)
    fetcher.close()
    assert multiprocessing.active_children() == before


def test_workers_leave_the_random_stream_alone(packed):
    fetcher = BatchFetcher(packed, 8, 3, 1, UNCHANGED)
    before = torch.get_rng_state()
    for _ in range(2):
        list(fetcher.fetch([request(0)]))
    assert torch.equal(torch.get_rng_state(), before)
