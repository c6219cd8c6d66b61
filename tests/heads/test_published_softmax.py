"""Partial FC as published against the oracle, on 1 and 2 ranks."""

import pytest
import torch
import torch.distributed as dist

from sf2cli.heads.published_softmax import PublishedSoftmaxHead
from sf2cli.heads.softmax import MarginSoftmax, oracle_softmax_loss
from tests.spawn import run_ranks

HP = MarginSoftmax("cosface", margin=0.35, scale=16)
K, D, BATCH = 11, 8, 6


def check():
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(K, D, generator=generator)
    features = torch.randn(BATCH, D, generator=generator)
    labels = torch.randint(0, 4, (BATCH,), generator=generator)
    weight = whole.clone().requires_grad_()
    exact = features.clone().requires_grad_()
    expected = oracle_softmax_loss(exact, weight, labels, HP)
    expected.backward()
    head = PublishedSoftmaxHead(K, D, HP)
    rows = slice(head.start, head.start + len(head.weight))
    head.weight.data = whole[rows].clone()
    own = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    part = features[own].clone().requires_grad_()
    loss = head(part, labels[own])
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(part.grad / world, exact.grad[own], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.weight.grad, weight.grad[rows], rtol=1e-4, atol=1e-6)


def test_one_process_equals_the_oracle():
    check()


def test_two_ranks_equal_the_oracle():
    run_ranks(2, check)


def test_only_cosface_was_published_so():
    with pytest.raises(ValueError, match="kind is arcface"):
        PublishedSoftmaxHead(K, D, MarginSoftmax("arcface", margin=0.5))
