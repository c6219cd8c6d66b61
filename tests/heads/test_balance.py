"""The bias kept in balance, and the curriculum that needs it."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.heads.curriculum import Curriculum
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias, negatives, positives
from tests.spawn import run_ranks

HP = SphereFace2(r=30.0, m=0.3)


def forces(features, weight, bias, labels, hp):
    """Pull and push by definition: the batch means of the two halves of dL/db, as magnitudes."""
    cos = F.normalize(features) @ weight.T
    own = F.one_hot(labels, len(weight)).bool()
    pull = -positives(cos, bias, hp).grad_bias.masked_fill(~own, 0).sum(1).mean()
    push = negatives(cos, bias, hp).grad_bias.masked_fill(own, 0).sum(1).mean()
    return pull.item(), push.item()


def batch(classes, width=8, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, width, generator=generator, dtype=torch.float64)
    return features, torch.randint(0, classes, (size,), generator=generator)


def _step(one_pass, classes=11, size=6):
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    head = ShardedHead(classes, 8, HP, dtype=torch.float64, tile_size=3)
    sgd = HeadSGD(head, 0.1, bias="balanced")
    features, labels = batch(classes, size=size)
    part = slice(rank * size // world, (rank + 1) * size // world)
    own = features[part].requires_grad_()
    if one_pass:
        sgd.one_pass(own, labels[part])
    else:
        head(own, labels[part]).backward()
        sgd.step()
    return head.bias.item()


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("one_pass", [True, False])
def test_a_step_carries_the_bias_half_of_the_log_ratio(ranks, one_pass):
    features, labels = batch(11)
    weight = ShardedHead(11, 8, HP, dtype=torch.float64).weight.detach()
    start = initial_bias(HP, 11)
    pull, push = forces(features, weight, start, labels, HP)
    expected = start + math.log(pull / push) / 2
    found = [_step(one_pass)] if ranks == 1 else run_ranks(ranks, _step, one_pass)
    assert found == pytest.approx([expected] * ranks, rel=1e-12)


def test_accumulated_losses_count_together():
    head = ShardedHead(11, 8, HP, dtype=torch.float64)
    sgd = HeadSGD(head, 0.1, bias="balanced")
    start = head.bias.item()
    both = []
    for seed in (1, 2):
        features, labels = batch(11, seed=seed)
        both.append(forces(features, head.weight.detach(), start, labels, HP))
        (head(features.requires_grad_(), labels) / 2).backward()
    sgd.step()
    sgd.zero_grad()
    pull, push = np.sum(both, axis=0)
    assert head.bias.item() == pytest.approx(start + math.log(pull / push) / 2, rel=1e-12)
    assert head.forces.tolist() == [0, 0]


def test_far_from_balance_the_step_is_held():
    head = ShardedHead(11, 8, HP, dtype=torch.float64)
    head.bias.data.fill_(-300.0)
    HeadSGD(head, 0.1, bias="balanced").one_pass(*batch(11))
    assert head.bias.item() == -298.5


def test_one_class_alone_keeps_its_bias():
    assert _step(True, classes=1) == initial_bias(HP, 1)


def test_the_bias_finds_its_balance_while_the_scale_grows():
    """On a batch that does not move, b ends where pull and push are equal."""
    full, grow = SphereFace2(r=40.0, m=0.4), Curriculum(r=10.0)
    features, labels = batch(50, width=64, size=32)
    head = ShardedHead(50, 64, grow.at(full, 0.0), dtype=torch.float64)
    sgd = HeadSGD(head, 0.0, bias="balanced")
    for step in range(60):
        head.hp = grow.at(full, step / 60)
        sgd.one_pass(features, labels)
    assert head.hp == full
    pull, push = forces(features, head.weight.detach(), head.bias.item(), labels, full)
    assert pull == pytest.approx(push, rel=0.02)


def test_the_curriculum_is_linear_and_then_over():
    hp = SphereFace2(r=40.0, m=0.4)
    grow = Curriculum(r=10.0, m=0.0, share=0.4)
    assert (grow.at(hp, 0.0).r, grow.at(hp, 0.0).m) == (10.0, 0.0)
    halfway = grow.at(hp, 0.2)
    assert (halfway.r, halfway.m) == pytest.approx((25.0, 0.2))
    assert grow.at(hp, 0.4) == hp == grow.at(hp, 1.0)
    assert Curriculum().at(hp, 0.1) == hp
