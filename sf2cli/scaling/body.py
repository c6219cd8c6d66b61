"""What feeds the head in a measurement: a backbone in plain torch, or random features."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sf2cli.backbones.registry import build_backbone
from sf2cli.scaling.workload import Workload


class Body(Protocol):
    """The part of a step before and after the head; the same batch every time."""

    def features(self) -> Tensor:
        """[B of this rank, d], a leaf without gradient for the head to differentiate by."""

    def learn(self, features: Tensor) -> None:
        """Take the step that `features.grad` asks for."""


def build_body(workload: Workload, device: torch.device) -> Body:
    """The backbone of `workload`, or random features where it has none."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(workload.seed * 1000 + rank)
    batch = workload.batch_size // workload.nproc
    if workload.backbone is None:
        return _RandomFeatures(torch.randn(batch, workload.embedding_size).to(device))
    network = build_backbone(
        workload.backbone,
        embedding_size=workload.embedding_size,
        image_size=workload.image_size,
    )
    images = torch.randn(batch, 3, workload.image_size, workload.image_size)
    return _Backbone(network.to(device), images.to(device))


class _RandomFeatures:
    def __init__(self, values: Tensor) -> None:
        self._values = values

    def features(self) -> Tensor:
        return self._values.clone().requires_grad_()

    def learn(self, features: Tensor) -> None:
        """Random features do not learn."""


class _Backbone:
    """fp32, momentum SGD, gradients averaged by DistributedDataParallel: no ZeRO."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self._network = network
        if dist.is_initialized():
            self._network = nn.parallel.DistributedDataParallel(
                network, gradient_as_bucket_view=True
            )
        self._images = images
        self._sgd = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self._outputs: Tensor | None = None

    def features(self) -> Tensor:
        self._outputs = self._network(self._images)
        return self._outputs.detach().requires_grad_()

    def learn(self, features: Tensor) -> None:
        assert self._outputs is not None
        self._outputs.backward(features.grad)
        self._outputs = None
        self._sgd.step()
        self._sgd.zero_grad()
