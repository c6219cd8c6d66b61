"""The search for the largest head, on machines that are made up."""

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.scaling.launch import RankMemoryError
from sf2cli.scaling.plan import Budget, largest_ids
from sf2cli.scaling.results import Measurement, RankResult
from sf2cli.scaling.search import search_largest
from sf2cli.scaling.usage import Usage
from sf2cli.scaling.workload import HeadKind, Workload

BUDGET, WORKLOAD = Budget(4 * 10**9), Workload(nproc=2)


class FakeLab:
    """Takes `per_identity` bytes an identity and fails beyond `limit`."""

    def __init__(self, per_identity, limit=10**18):
        self.per_identity, self.limit, self.tried = per_identity, limit, []

    def measure(self, point):
        self.tried.append(point.num_ids)
        peak = point.num_ids * self.per_identity
        if peak > self.limit:
            raise RankMemoryError("rank 1 was killed")
        rank = RankResult(
            device="cpu",
            step_s=[1.0],
            head_s=[1.0],
            losses=[1.0],
            before_bytes=0,
            kept_bytes=0,
            peak_bytes=peak // 2,
            peak_was_reset=True,
            phases={},
            product_flops=1.0,
            rates=None,
            usage=Usage(wall_s=1.0, own_s=1.0, machine_s=2.0, cores=2),
            tile_rows=1,
            products="float32",
            kernels="c++",
        )
        return Measurement(point=point, ranks=[rank, rank])


def _search(lab):
    return search_largest(HeadKind(), WORKLOAD, BUDGET, None, lab.measure)


def test_the_plans_answer_is_taken_when_it_trains():
    lab = FakeLab(4000)
    found = _search(lab)
    assert lab.tried == [found.point.num_ids]
    assert found.point.num_ids == largest_ids(HeadKind(), WORKLOAD, BUDGET, None)


def test_a_peak_above_the_budget_steps_down_to_it():
    lab = FakeLab(6000)
    found = _search(lab)
    assert len(lab.tried) == 2
    assert 0.95 * BUDGET.bytes < found.all_peaks_bytes <= BUDGET.bytes


def test_a_killed_rank_steps_down():
    lab = FakeLab(4000, limit=3.2 * 10**9)
    found = _search(lab)
    assert found.all_peaks_bytes <= 3.2 * 10**9
    assert lab.tried == sorted(lab.tried, reverse=True)
    assert len(lab.tried) > 1


def test_it_gives_up():
    with pytest.raises(Sf2Error, match="did not train within"):
        _search(FakeLab(4000, limit=1))
