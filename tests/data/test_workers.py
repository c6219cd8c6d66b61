import os
import signal
import threading
import time
from pickle import PickleBuffer

import pytest

from sf2cli.data.workers import Workers
from sf2cli.errors import Sf2Error

PIECES = 23


def counting(worker, workers):
    """Piece n is n numbers in parts of one, then an empty part that ends it."""
    for piece in range(worker, PIECES, workers):
        for part in range(piece):
            yield True, [(piece, part)]
        yield False, []


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_the_order_is_that_of_the_work(count):
    with Workers(count, counting) as pool:
        found = [one for part in pool.results() for one in part]
    assert found == [(piece, part) for piece in range(PIECES) for part in range(piece)]


@pytest.mark.parametrize("size", [0, 1000, 1 << 20, 5 << 20])
def test_bytes_out_of_band_come_whole_and_hold_until_the_next_part(size):
    """Some of them fit the ring's places and some do not."""

    def share(worker, workers):
        for piece in range(worker, PIECES, workers):
            yield False, [PickleBuffer(bytes([piece + i]) * size) for i in range(2)]

    with Workers(2, share) as pool:
        for piece, part in enumerate(pool.results()):
            assert [bytes(data) for data in part] == [bytes([piece + i]) * size for i in range(2)]
    assert piece == PIECES - 1


def failing_with(failure):
    def share(worker, workers):
        yield False, worker
        if worker == 1:
            raise failure
        yield False, worker

    return share


def test_an_error_of_a_worker_is_raised_where_its_result_would_be():
    found = []
    with Workers(2, failing_with(Sf2Error("no", "do"))) as pool, pytest.raises(Sf2Error) as caught:
        found.extend(pool.results())
    assert (caught.value.message, caught.value.remedy) == ("no", "do")
    with (
        Workers(2, failing_with(ValueError("a fault of ours"))) as pool,
        pytest.raises(RuntimeError, match=r"(?s)Traceback.*ValueError: a fault of ours"),
    ):
        list(pool.results())


def test_a_worker_that_is_killed_is_named():
    def share(worker, workers):
        os.kill(os.getpid(), signal.SIGKILL)
        yield False, worker

    with (
        Workers(2, share) as pool,
        pytest.raises(Sf2Error, match="a working process ended with status -9") as caught,
    ):
        list(pool.results())
    assert "--workers" in str(caught.value.remedy)


def test_a_worker_that_is_killed_within_a_message_is_named():
    def share(worker, workers):
        # Too long for a place of the ring: the pipe takes it bit by bit.
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        yield False, bytes(1 << 28)

    with Workers(2, share) as pool:
        time.sleep(0.6)
        with pytest.raises(Sf2Error, match="a working process ended with status -9"):
            list(pool.results())


def test_a_worker_waits_until_it_is_asked(tmp_path):
    """What it is ahead by is bounded: else a set would gather in memory."""

    def share(worker, workers):
        with (tmp_path / str(worker)).open("ab", buffering=0) as made:
            for _ in range(1000):
                made.write(b".")
                yield False, bytes(100_000)

    with Workers(2, share) as pool:
        results = pool.results()
        for _ in range(200):
            next(results)
        reached = [(tmp_path / name).stat().st_size for name in ("0", "1")]
    # Half of 200 are each one's, and what the ring and the pipe hold.
    assert max(reached) < 100 + 30
