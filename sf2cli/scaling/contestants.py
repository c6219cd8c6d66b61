"""The heads that are measured, each with its optimiser behind one method."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sf2cli.heads.class_shard import ClassShard
from sf2cli.heads.fused import FusedStep
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.published_softmax import PublishedSoftmaxHead
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.heads.softmax import MarginSoftmax
from sf2cli.heads.softmax_optimizer import SoftmaxSGD
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.scaling.workload import PARTIAL, HeadKind, Point, Storage, Workload

LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
DTYPES: dict[Storage, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Margins as published; partialfc is CosFace, on all classes or on those drawn.
LOSSES = {
    "normface": MarginSoftmax("normface"),
    "cosface": MarginSoftmax("cosface", margin=0.4),
    "arcface": MarginSoftmax("arcface", margin=0.5),
    PARTIAL: MarginSoftmax("cosface", margin=0.4),
}


class Contestant(Protocol):
    """A head in training."""

    @property
    def kept_bytes(self) -> int:
        """Of this rank's weights and momentum."""

    @property
    def tile_rows(self) -> int:
        """Identities of a tile; 0 for all at once."""

    @property
    def fused(self) -> FusedStep | None:
        """What takes the whole step in one call; None where many do."""

    @property
    def products(self) -> torch.dtype:
        """The type its matrix products are taken in."""

    @property
    def kernels(self) -> str:
        """What does its element-wise work."""

    def step(self, features: Tensor, labels: Tensor) -> Tensor:
        """Step the head on its part of the batch, give `features` its gradient; the loss."""


def build(point: Point, device: torch.device) -> Contestant:
    """The head of `point` over all ranks of torch.distributed; collective where they are several.

    Raises:
        RuntimeError: not enough memory.
    """
    if not point.head.is_softmax:
        return _OneVsAll(point, device)
    return _softmax(point, device)


def one_vs_all(
    kind: HeadKind,
    num_ids: int,
    workload: Workload,
    device: torch.device,
    tile_size: int | None = None,
) -> ShardedHead:
    """The SphereFace2 head of that kind, with the paper's hyper-parameters."""
    return ShardedHead(
        num_ids,
        workload.embedding_size,
        SphereFace2(),
        device=device,
        dtype=DTYPES[kind.storage],
        negatives=kind.rate,
        seed=workload.seed,
        tile_size=tile_size,
    )


class _OneVsAll:
    def __init__(self, point: Point, device: torch.device) -> None:
        self._head = one_vs_all(point.head, point.num_ids, point.workload, device)
        self._sgd = HeadSGD(self._head, LEARNING_RATE, _momentum(point.head), WEIGHT_DECAY)
        self._batch = point.workload.batch_size

    @property
    def kept_bytes(self) -> int:
        return _bytes(self._head.weight) + _bytes(self._sgd.weight_momentum)

    @property
    def tile_rows(self) -> int:
        return self._head.tile_size(self._batch)

    @property
    def fused(self) -> FusedStep | None:
        return self._head.fused(self._batch)

    @property
    def products(self) -> torch.dtype:
        return self._head.products

    @property
    def kernels(self) -> str:
        return self._head.kernels.name + (", fused" if self.fused else "")

    def step(self, features: Tensor, labels: Tensor) -> Tensor:
        loss = self._sgd.one_pass(features, labels)
        loss.backward()
        return loss.detach()


def _softmax(point: Point, device: torch.device) -> _Softmax:
    kind, workload = point.head, point.workload
    loss, momentum = LOSSES[kind.name], _momentum(kind)
    if kind.is_published:
        published = PublishedSoftmaxHead(point.num_ids, workload.embedding_size, loss).to(device)
        plain = torch.optim.SGD(
            published.parameters(), LEARNING_RATE, momentum, weight_decay=WEIGHT_DECAY
        )
        return _Softmax(published, plain, kind.momentum)
    head = ShardedSoftmaxHead(
        point.num_ids,
        workload.embedding_size,
        loss,
        device=device,
        seed=workload.seed,
        sample_rate=kind.rate,
    )
    sgd = SoftmaxSGD(head, LEARNING_RATE, momentum, WEIGHT_DECAY)
    return _Softmax(head, sgd, kind.momentum)


class _Softmax:
    tile_rows = 0
    fused = None
    products = torch.float32
    kernels = "torch"

    def __init__(self, head: ClassShard, sgd: SoftmaxSGD | torch.optim.SGD, momentum: bool) -> None:
        self._head = head
        self._sgd = sgd
        self._momentum = momentum

    @property
    def kept_bytes(self) -> int:
        return _bytes(self._head.weight) * (1 + self._momentum)

    def step(self, features: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self._head(features, labels)
        loss.backward()
        self._sgd.step()
        self._sgd.zero_grad()
        return loss.detach()


def _momentum(kind: HeadKind) -> float:
    return MOMENTUM if kind.momentum else 0.0


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
