"""The plan against numbers worked out by hand and those in circulation for eight GPUs."""

import pytest

from sf2cli.scaling.plan import (
    BackboneCost,
    Budget,
    Platform,
    backbone_bytes,
    bytes_per_identity,
    largest_ids,
    rank_memory,
)
from sf2cli.scaling.workload import HeadKind, Workload

FP32 = HeadKind()
FP32_BARE = HeadKind(momentum=False)
BF16 = HeadKind(storage="bf16")
BF16_BARE = HeadKind(storage="bf16", momentum=False)
COSFACE = HeadKind(name="cosface")
PARTIAL = HeadKind(name="partialfc", rate=0.1)


@pytest.mark.parametrize(
    ("head", "size", "millions"),
    [
        (COSFACE, 6144, (31, 11.4, 91)),
        (FP32, 4096, (47, 17, 137)),
        (FP32_BARE, 2048, (94, 34, 273)),
        (BF16, 2048, (94, 34, 273)),
        (BF16_BARE, 1024, (188, 68, 547)),
    ],
)
def test_bytes_an_identity(head, size, millions):
    """peers.md B.3: at d = 512, on 8 x 24 GB, 1 x 70 GB and 8 x 70 GB for the head."""
    assert bytes_per_identity(head, 512) == size
    for gigabytes, expected in zip((8 * 24, 70, 8 * 70), millions, strict=True):
        assert gigabytes * 1e9 / size == pytest.approx(expected * 1e6, rel=0.02)


def test_a_softmax_head_holds_logits():
    """B = 1024, 10M identities, 8 GPUs: 5.1 GB each."""
    memory = rank_memory(COSFACE, 10_000_000, Workload(batch_size=1024, nproc=8))
    assert memory.logits == 5_120_000_000
    assert memory.gradient == memory.weights == memory.momentum == 1_250_000 * 2048
    assert memory.tile == 0
    assert bytes_per_identity(COSFACE, 512, 1024) == 6144 + 4096


def test_a_sampled_head_holds_them_for_the_rows_it_draws():
    memory = rank_memory(PARTIAL, 1_000_000, Workload(batch_size=128))
    assert memory.weights == memory.momentum == 1_000_000 * 2048
    assert memory.gradient == 2 * 100_000 * 2048
    assert memory.logits == 100_000 * 128 * 4


def test_the_published_form_holds_autograds_temporaries():
    published = HeadKind(name="partialfc")
    # Seven rows of 2,048 bytes; or three and four columns of logits, where those are longer.
    assert bytes_per_identity(published, 512, 128) == 7 * 2048
    assert bytes_per_identity(published, 512, 1024) == 3 * 2048 + 4 * 4096


def test_one_pass_keeps_weights_momentum_and_a_tile():
    memory = rank_memory(BF16, 10_000_001, Workload(nproc=2))
    assert memory.weights == memory.momentum == 5_000_001 * 1024
    assert memory.gradient == memory.logits == memory.backbone == 0
    assert memory.tile + memory.features < 64 * 2**20
    assert memory.total == 2 * 5_000_001 * 1024 + memory.tile + memory.features + memory.process


def test_what_is_beyond_weights_and_momentum_does_not_grow():
    def beyond(count):
        memory = rank_memory(FP32, count, Workload())
        return memory.total - memory.weights - memory.momentum

    assert beyond(100_000) == beyond(1_000_000) == beyond(4_000_000)


def test_zero_stages_share_the_backbone_out():
    cost = BackboneCost(parameters=1000, activation_bytes=7, forward_flops=0)
    workload = Workload(nproc=4, batch_size=8)
    sizes = [backbone_bytes(cost, workload, stage) for stage in range(4)]
    # Parameters, gradients, momentum of 4,000 bytes each, and two images' activations.
    assert sizes == [12_000 + 14, 8_000 + 2_000 + 14, 4_000 + 3_000 + 14, 4_000 + 14]


@pytest.mark.parametrize("head", [FP32, BF16_BARE, COSFACE, PARTIAL])
@pytest.mark.parametrize(("nproc", "shared"), [(1, True), (3, True), (3, False)])
def test_largest_is_the_last_that_fits(head, nproc, shared):
    workload, budget = Workload(nproc=nproc, batch_size=12), Budget(3 * 10**9, shared)
    most = largest_ids(head, workload, budget)
    assert most > 1000
    assert budget.holds(rank_memory(head, most, workload), nproc)
    # The next identity may still fit where the largest shard does not grow.
    assert not budget.holds(rank_memory(head, most + nproc, workload), nproc)


def test_a_memory_that_holds_nothing():
    assert largest_ids(FP32, Workload(), Budget(10**6)) == 0
    assert largest_ids(FP32, Workload(), Budget(10**9), None, Platform(process_bytes=10**9)) == 0
