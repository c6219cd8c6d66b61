"""One process of plain torch that the sharded softmax head is held against, in float64."""

import numpy as np
import torch
import torch.distributed as dist

from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.heads.softmax import MarginSoftmax, oracle_softmax_loss
from sf2cli.heads.softmax_optimizer import SoftmaxSGD

KINDS = {
    "normface": MarginSoftmax("normface", scale=16),
    "cosface": MarginSoftmax("cosface", margin=0.35),
    "arcface": MarginSoftmax("arcface", margin=0.5),
    "sphereface": MarginSoftmax("sphereface", margin=1.5, scale=30),
    "sphereface_r": MarginSoftmax("sphereface_r", margin=1.4, scale=30, loss_weight=2.0),
    "adaface": MarginSoftmax("adaface", margin=0.4),
    "filtered": MarginSoftmax("cosface", margin=0.35, interclass_filter=0.2),
    "sub_centres": MarginSoftmax("arcface", margin=0.5, sub_centres=3),
}
# Only the loss's form differs; they are of the kinds above.
VARIANTS = ("filtered", "sub_centres")
D, BATCH, STEPS = 8, 6, 4
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-3}


def place():
    """This process's rank and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def batches(num_classes, steps=STEPS):
    """Features and labels; only the first classes occur, so that the last rank has no positive."""
    generator = torch.Generator().manual_seed(num_classes)
    for _ in range(steps):
        features = torch.randn(BATCH, D, generator=generator, dtype=torch.float64)
        yield features, torch.randint(0, -(-num_classes // 3), (BATCH,), generator=generator)


def new_head(num_classes, kind, **options):
    head = ShardedSoftmaxHead(num_classes, D, KINDS[kind], dtype=torch.float64, **options)
    return head, SoftmaxSGD(head, **SGD)


def everywhere(value):
    """Every rank's value."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def backward(head, features, labels):
    """This rank's loss, and the gradient of the true mean by its part of the features."""
    rank, world = place()
    own = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    part = features[own].clone().requires_grad_()
    loss = head(part, labels[own])
    loss.backward()
    return loss.item(), part.grad / world, own


class Quality:
    """AdaFace's quality of each whole batch, by running statistics of the features' lengths."""

    def __init__(self, head):
        self.adaptive = head.hp.kind == "adaface"
        self.mean, self.std = 20.0, 100.0

    def __call__(self, features):
        if not self.adaptive:
            return None
        lengths = features.detach().double().norm(dim=1).clamp(0.001, 100)
        self.mean += 0.01 * (lengths.mean().item() - self.mean)
        self.std += 0.01 * (lengths.std().item() - self.std)
        return ((lengths - self.mean) / (self.std + 1e-3) * 0.333).clamp(-1, 1)


class Worst:
    """The largest error of anything compared, relative to the largest expected value."""

    def __init__(self):
        self.error = 0.0

    def compare(self, found, expected):
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape
        scale = max(np.abs(expected).max(initial=0), 1e-12)
        self.error = max(self.error, float(np.abs(found - expected).max(initial=0) / scale))


def follow_plain_torch(num_classes, kind, **options):
    """The largest error of this rank against oracle, autograd and torch.optim.SGD."""
    head, sgd = new_head(num_classes, kind, **options)
    rows = slice(head.start, head.stop)
    weight = torch.nn.Parameter(torch.cat(everywhere(head.weight.detach())))
    reference = torch.optim.SGD([weight], **SGD)
    worst, quality = Worst(), Quality(head)
    for features, labels in batches(num_classes):
        features.requires_grad_()
        expected = oracle_softmax_loss(features, weight, labels, head.hp, quality(features))
        expected.backward()
        loss, grad_features, own = backward(head, features.detach(), labels)
        worst.compare(loss, expected.item())
        worst.compare(grad_features, features.grad[own])
        grad = head.weight.grad
        worst.compare(grad.to_dense() if grad.is_sparse else grad, weight.grad[rows])
        for optimizer in (reference, sgd):
            optimizer.step()
            optimizer.zero_grad()
        worst.compare(head.weight.detach(), weight.detach()[rows])
    return worst.error


def follow_sampled_torch(num_classes, kind, rate):
    """The same for a sampled head: the reference sees the rows that the ranks drew, no others."""
    head, sgd = new_head(num_classes, kind, sample_rate=rate)
    weight = torch.cat(everywhere(head.weight.detach()))
    momentum = torch.zeros_like(weight)
    worst, quality = Worst(), Quality(head)
    for features, labels in batches(num_classes):
        loss, grad_features, own = backward(head, features, labels)
        grad = head.weight.grad.coalesce()
        drawn = grad.indices()[0] + head.start
        mine = labels.unique()
        mine = mine[(mine >= head.start) & (mine < head.stop)]
        assert set(mine.tolist()) <= set(drawn.tolist())
        assert len(drawn) == max(len(mine), round(rate * (head.stop - head.start)))

        index = torch.cat(everywhere(drawn))
        rows = torch.nn.Parameter(weight[index])
        reference = torch.optim.SGD([rows], **SGD)
        reference.state[rows]["momentum_buffer"] = momentum[index]
        features.requires_grad_()
        places = torch.searchsorted(index, labels)
        expected = oracle_softmax_loss(features, rows, places, head.hp, quality(features))
        expected.backward()
        worst.compare(loss, expected.item())
        worst.compare(grad_features, features.grad[own])
        worst.compare(grad.values(), rows.grad[torch.isin(index, drawn)])
        before = head.weight.detach().clone(), sgd.weight_momentum.clone()
        sgd.step()
        sgd.zero_grad()
        reference.step()
        weight[index] = rows.detach()
        momentum[index] = reference.state[rows]["momentum_buffer"]
        others = torch.ones(head.stop - head.start, dtype=torch.bool)
        others[drawn - head.start] = False
        for then, now, wanted in zip(
            before, (head.weight.detach(), sgd.weight_momentum), (weight, momentum), strict=True
        ):
            worst.compare(now, wanted[head.start : head.stop])
            assert torch.equal(now[others], then[others])
    return worst.error
