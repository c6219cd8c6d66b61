"""Ranks that end badly: one message, no traceback, nothing left running."""

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.scaling import launch
from sf2cli.scaling.workload import HeadKind, Point, Workload


def ignore(_count):
    """Progress that nobody watches."""


@pytest.fixture
def started(monkeypatch):
    processes = []
    start = launch._start

    def record(folder, rank, threads):
        processes.append(start(folder, rank, threads))
        return processes[-1]

    monkeypatch.setattr(launch, "_start", record)
    return processes


def test_a_rank_that_is_killed_ends_them_all(started):
    point = Point(
        head=HeadKind(), num_ids=2000, workload=Workload(nproc=2, steps=10**6, batch_size=8)
    )

    def kill_one(_count):
        started[1].kill()

    with pytest.raises(launch.RankMemoryError, match="2,000 identities: rank 1 was killed"):
        launch.run_ranks(point, kill_one)
    assert all(process.returncode is not None for process in started)


def test_more_than_can_be_allocated():
    point = Point(head=HeadKind(), num_ids=10**12, workload=Workload())
    with pytest.raises(launch.RankMemoryError, match="rank 0 ran out of memory"):
        launch.run_ranks(point, ignore)


def test_a_users_mistake_keeps_its_words(started):
    point = Point(head=HeadKind(), num_ids=10, workload=Workload(backbone="resnext9000"))
    with pytest.raises(Sf2Error, match="resnext9000") as caught:
        launch.run_ranks(point, ignore)
    assert "iresnet50" in caught.value.remedy
    assert all(process.returncode is not None for process in started)


def test_the_rank_that_failed_is_named_and_not_the_one_that_lost_it():
    # The published form cannot hold an empty shard, which rank 1 has.
    head = HeadKind(name="partialfc")
    point = Point(head=head, num_ids=1, workload=Workload(nproc=2, batch_size=8))
    with pytest.raises(
        Sf2Error, match=r"rank 1 failed with status 1: IndexError: max\(\)"
    ) as caught:
        launch.run_ranks(point, ignore)
    assert "Traceback" not in str(caught.value)
