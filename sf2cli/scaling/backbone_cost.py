"""A backbone's sizes, counted on torch's meta device: nothing is allocated or computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sf2cli.backbones.registry import build_backbone
from sf2cli.scaling.plan import BackboneCost


def backbone_cost(name: str, embedding_size: int, image_size: int) -> BackboneCost:
    """Count `name` on RGB images of `image_size`.

    Raises:
        Sf2Error: an unknown name or an image size the backbones do not take.
    """
    with torch.device("meta"):
        network = build_backbone(name, embedding_size=embedding_size, image_size=image_size)
        # BatchNorm in training mode refuses a single value a channel, so two images are counted.
        images = torch.empty(2, 3, image_size, image_size)
    values = 0

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal values
        values += output.numel()

    for module in network.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as flops:
        network(images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return BackboneCost(parameters, 4 * values // 2, flops.get_total_flops() // 2)
