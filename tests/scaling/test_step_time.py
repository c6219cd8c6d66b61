"""The model of a step against numbers worked out by hand."""

import pytest

from sf2cli.scaling.machines import find_machine
from sf2cli.scaling.plan import BackboneCost
from sf2cli.scaling.step_time import Rates, head_flops, mean_rates, step_time
from sf2cli.scaling.target import Cluster, assumptions, cluster_rates, target_speed
from sf2cli.scaling.workload import HeadKind, Workload

ROUND = Rates(
    product_flops=6e9,
    pairs=1e6,
    update=1e6,
    latency=0.001,
    link=1e6,
    tile_rows=50,
    dispatch=0.002,
)
WORKLOAD = Workload(embedding_size=10, batch_size=100, nproc=1)


def test_flops_of_a_full_head():
    """peers.md B.3: B = 1024, C = 10M, d = 512 take 3.1e13 a step."""
    workload = Workload(batch_size=1024)
    assert head_flops(HeadKind(), 10_000_000, workload) == pytest.approx(3.1e13, rel=0.02)
    sampled = HeadKind(rate=0.1)
    assert head_flops(sampled, 10_000_000, workload) == pytest.approx(3.1e12, rel=0.02)


def test_the_parts_of_a_step():
    step = step_time(HeadKind(), 1000, WORKLOAD, ROUND)
    assert step.product == pytest.approx(6 * 100 * 10 * 1000 / 6e9)
    assert step.elementwise == pytest.approx(100 * 1000 / 1e6)
    # Rows and momentum of 40 bytes each, read and written.
    assert step.update == pytest.approx(4 * 40 * 1000 / 1e6)
    assert step.communication == step.backbone == 0
    assert step.dispatch == pytest.approx(0.002 * 20)
    assert step.total == pytest.approx(0.001 + 0.1 + 0.16 + 0.04)


def test_a_gpu_hides_dispatch_behind_work_and_rereads():
    gpu = ROUND.model_copy(update={"is_gpu": True})
    step = step_time(HeadKind(), 1000, WORKLOAD, gpu)
    assert step.update == pytest.approx((4 * 40 + 3 * 40) * 1000 / 1e6)
    assert step.dispatch == 0
    slow = step_time(HeadKind(), 1000, WORKLOAD, gpu.model_copy(update={"dispatch": 1.0}))
    assert slow.product + slow.elementwise + slow.update + slow.dispatch == pytest.approx(20)


def test_ranks_share_the_identities_and_pay_for_talking():
    one = step_time(HeadKind(), 1000, WORKLOAD, ROUND)
    two = step_time(HeadKind(), 1000, WORKLOAD.model_copy(update={"nproc": 2}), ROUND)
    assert two.product == pytest.approx(one.product / 2)
    assert two.update == pytest.approx(one.update / 2)
    # Two collectives of 4,000 bytes.
    assert two.communication == pytest.approx(2 * 0.001 + 8000 / 1e6)


def test_ranks_are_averaged():
    other = ROUND.model_copy(update={"product_flops": 2e9, "pairs": 3e6})
    mean = mean_rates([ROUND, other])
    assert (mean.product_flops, mean.pairs, mean.update) == (4e9, 2e6, 1e6)


def test_storage_momentum_and_sampling_shrink_the_update():
    def update(**kind):
        return step_time(HeadKind(**kind), 1000, WORKLOAD, ROUND).update

    assert update(storage="bf16") == update(momentum=False) == pytest.approx(update() / 2)
    assert update(rate=0.25) == pytest.approx(update() / 4)


def test_eight_gpus_take_ten_million_identities():
    """peers.md B.3: some 10 ms of products at 400 TFLOP/s on 8 H100-class GPUs, B = 1024."""
    cluster = Cluster(find_machine("8xh100"), 1)
    workload = Workload(batch_size=1024, nproc=8)
    speed = target_speed(HeadKind(storage="bf16"), 10**7, workload, cluster, None, 0)
    rate = cluster_rates(HeadKind(storage="bf16"), workload, cluster, None).product_flops
    assert speed.step.product * rate / 400e12 == pytest.approx(0.010, rel=0.05)
    assert 0 < speed.of_peak < 0.6
    assert 0.9 < speed.without_links < 1
    assert speed.samples_per_s == pytest.approx(1024 / speed.step.total)


def test_more_hosts_cost_more_talking_and_less_of_everything_else():
    head, workload = HeadKind(storage="bf16"), Workload(batch_size=1024)
    cost = BackboneCost(parameters=4 * 10**7, activation_bytes=0, forward_flops=10**10)
    one, four = (
        target_speed(
            head,
            10**7,
            workload.model_copy(update={"nproc": 8 * hosts}),
            Cluster(find_machine("8xh100"), hosts),
            cost,
            1,
        )
        for hosts in (1, 4)
    )
    assert four.step.product == pytest.approx(one.step.product / 4)
    assert four.step.backbone == pytest.approx(one.step.backbone / 4)
    assert four.step.communication > one.step.communication
    assert four.without_links < one.without_links


def test_a_device_without_bf16_multiplies_in_fp32():
    cluster = Cluster(find_machine("8xv100-32"), 1)
    workload = Workload(nproc=8)
    rates = [cluster_rates(HeadKind(storage=s), workload, cluster, None) for s in ("fp32", "bf16")]
    assert rates[0].product_flops == rates[1].product_flops < 15.7e12
    assert "no bf16 units" in assumptions(cluster, None)[0]
