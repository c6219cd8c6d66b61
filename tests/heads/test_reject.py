"""Samples that their own classifier rejects, left out of the loss."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, g, oracle_loss
from tests.spawn import run_ranks

HP = SphereFace2(r=20.0, m=0.2)
CLASSES, WIDTH, BATCH = 11, 8, 12


def new_head():
    head = ShardedHead(CLASSES, WIDTH, HP, dtype=torch.float64, tile_size=3)
    head.bias.data.fill_(-2.0)
    return head


def batch():
    """Every second sample near the row of its label, the others anywhere."""
    rows = ShardedHead(CLASSES, WIDTH, HP, dtype=torch.float64).weight
    if dist.is_initialized():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, rows.detach())
        rows = torch.cat(parts)
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    features[::2] = rows.detach()[labels[::2]] + 0.1 * features[::2]
    return features, labels, rows.detach()


def _step():
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    head = new_head()
    head.reject_below = 0.3
    features, labels, _ = batch()
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    own = features[part].requires_grad_()
    loss = HeadSGD(head, 0.1, momentum=0.0, weight_decay=0.0).one_pass(own, labels[part])
    loss.backward()
    return (
        loss.item(),
        (own.grad / world).numpy(),
        head.weight.detach().numpy(),
        head.similarities.take().rejected,
    )


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_rest_makes_the_loss_and_the_gradients(ranks):
    found = [_step()] if ranks == 1 else run_ranks(ranks, _step)
    features, labels, rows = batch()
    own = (F.normalize(features) * rows[labels]).sum(1)
    kept = torch.sigmoid(HP.r * g(own, HP.t) - 2.0) >= 0.3
    assert 0 < kept.sum() < BATCH
    assert kept[::2].all()
    features.requires_grad_()
    weight = rows.clone().requires_grad_()
    bias = torch.tensor(-2.0, dtype=torch.float64)
    loss = oracle_loss(features[kept], weight, bias, labels[kept], HP) * kept.sum() / BATCH
    loss.backward()
    for value, _, _, rejected in found:
        assert value == pytest.approx(loss.item(), rel=1e-12)
        assert rejected == BATCH - kept.sum()
    grads = np.concatenate([grad for _, grad, _, _ in found])
    np.testing.assert_allclose(grads, features.grad, rtol=1e-10, atol=1e-15)
    stepped = F.normalize(rows - 0.1 * weight.grad)
    after = np.concatenate([after for _, _, after, _ in found])
    np.testing.assert_allclose(after, stepped, rtol=1e-10)


def test_the_samples_left_out_of_every_piece_of_a_batch_are_counted():
    head = new_head()
    head.reject_below = 0.3
    features, labels, _ = batch()
    head(features, labels)
    whole = head.similarities.take().rejected
    for part in (slice(None, 5), slice(5, None)):
        head(features[part], labels[part])
    assert head.similarities.take().rejected == whole > 0


def test_a_batch_with_nothing_left_moves_nothing_but_by_momentum():
    head = new_head()
    head.reject_below = 1.0
    before, bias = head.weight.detach().clone(), head.bias.item()
    features, labels, _ = batch()
    sgd = HeadSGD(head, 0.1, weight_decay=0.0, bias="balanced")
    loss = sgd.one_pass(features.requires_grad_(), labels)
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()
    torch.testing.assert_close(head.weight.detach(), before)
    assert head.bias.item() == bias
