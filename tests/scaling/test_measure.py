"""Small real measurements, in fresh processes. No time is asserted."""

import torch

from sf2cli.heads.fused import FusedStep
from sf2cli.scaling.launch import run_ranks
from sf2cli.scaling.results import TICKS_BESIDE_STEPS
from sf2cli.scaling.workload import HeadKind, Point, Workload

NUM_IDS = 2001


def _measure(head, nproc, **workload):
    ticks = []
    point = Point(
        head=head,
        num_ids=NUM_IDS,
        workload=Workload(nproc=nproc, batch_size=16, embedding_size=64, **workload),
    )
    ranks = run_ranks(point, ticks.append)
    assert sum(ticks) == TICKS_BESIDE_STEPS + point.workload.steps
    return ranks


def _check(ranks, value_bytes):
    rows = [-(-NUM_IDS // len(ranks)), NUM_IDS // len(ranks)][: len(ranks)]
    assert [rank.kept_bytes for rank in ranks] == [2 * n * 64 * value_bytes for n in rows]
    for rank in ranks:
        assert len(rank.step_s) == len(rank.head_s) == 5
        assert all(head <= step for head, step in zip(rank.head_s, rank.step_s, strict=True))
        # The same batch seven times: every rank sees the same loss, and it falls.
        assert rank.losses == ranks[0].losses
        assert len(rank.losses) == 7
        assert rank.losses[-1] < rank.losses[1] < rank.losses[0]
        assert rank.peak_was_reset
        assert rank.peak_bytes >= rank.before_bytes
        assert 0 <= rank.beyond_bytes < 64 * 2**20
        assert rank.phases["product"] > 0
        assert rank.phases["elementwise"] > 0
        assert rank.product_flops > 0
        assert rank.usage.own_s > 0
        assert sum(rank.step_s) <= rank.usage.wall_s


def test_sphereface2_alone():
    (rank,) = ranks = _measure(HeadKind(storage="bf16"), 1)
    _check(ranks, 2)
    assert rank.rates is not None
    assert min(rank.rates.product_flops, rank.rates.pairs, rank.rates.update) > 0
    assert rank.rates.latency == 0
    assert rank.phases["update"] > 0
    assert rank.tile_rows > 0


def test_sphereface2_on_two_ranks():
    ranks = _measure(HeadKind(), 2)
    _check(ranks, 4)
    fused = FusedStep.of(torch.float32, 64) is not None
    assert {rank.kernels for rank in ranks} == {"c++, fused" if fused else "c++"}
    # What a fused step cost is told by its own clocks, and no dispatch is left.
    assert all(rank.phases["update"] > 0 for rank in ranks)
    assert all((rank.rates.dispatch == 0) == fused for rank in ranks)
    assert all(rank.phases["communication"] > 0 for rank in ranks)
    assert all(rank.products == "float32" for rank in ranks)
    assert all(rank.rates.latency > 0 for rank in ranks)


def test_a_softmax_head_on_two_ranks():
    ranks = _measure(HeadKind(name="cosface"), 2)
    _check(ranks, 4)
    assert all(rank.phases["update"] > 0 for rank in ranks)
    assert all(rank.phases["communication"] > 0 for rank in ranks)


def test_with_a_backbone():
    (rank,) = _measure(HeadKind(), 1, backbone="mobilefacenet", image_size=16)
    assert all(head < step for head, step in zip(rank.head_s, rank.step_s, strict=True))
    assert rank.losses[-1] < rank.losses[0]


def test_sampled_negatives():
    (rank,) = _measure(HeadKind(rate=0.25), 1)
    assert rank.kernels == "c++"
    assert rank.kept_bytes == 2 * NUM_IDS * 64 * 4
    assert rank.losses[-1] < rank.losses[0]


def test_a_sampled_softmax_head():
    (rank,) = _measure(HeadKind(name="partialfc", rate=0.1), 1)
    assert rank.phases["product"] > 0


def test_partial_fc_as_published():
    (rank,) = _measure(HeadKind(name="partialfc"), 1)
    assert rank.kept_bytes == 2 * NUM_IDS * 64 * 4
    assert rank.losses[-1] < rank.losses[0]
