import pytest

from sf2cli.scaling.usage import Stopwatch, Usage, cores_lost


def _usage(own, machine):
    return Usage(wall_s=2.0, own_s=own, machine_s=machine, cores=4)


def test_cores_that_nobody_wanted_are_not_lost():
    # Two ranks of one thread on four cores; others work on two of them.
    assert cores_lost([_usage(2.0, 8.0), _usage(2.0, 8.0)], wanted=2) == 0


def test_cores_that_others_took():
    # The same ranks with two threads each want all cores, and others have one.
    assert cores_lost([_usage(3.0, 8.0), _usage(3.0, 8.0)], wanted=4) == pytest.approx(1)


def test_more_threads_than_cores_lose_what_others_take():
    assert cores_lost([_usage(6.0, 8.0)], wanted=9) == pytest.approx(1)


def test_work_is_seen():
    watch = Stopwatch()
    sum(range(3_000_000))
    usage = watch.read()
    assert 0 < usage.own_s <= usage.wall_s * usage.cores
