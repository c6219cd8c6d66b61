"""SFNet: the network of SphereFace and of the SphereFace2 paper, without and with BatchNorm.

Source: ydwen/opensphere. `SFNet` has the names, shapes and initialisation of
model/backbone/sfnet_deprecated.py (branch SphereFace2_ICLR21), `SFNetBN` those of
model/backbone/sfnet.py with BatchNorm. The two differ in more than the norm: without it the
block's second ReLU comes before the shortcut is added, with it after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

LAYOUTS: dict[str, tuple[int, int, int, int]] = {
    "sfnet4": (0, 0, 0, 0),
    "sfnet10": (0, 1, 2, 0),
    "sfnet20": (1, 2, 4, 1),
    "sfnet36": (2, 4, 8, 2),
    "sfnet64": (3, 8, 16, 3),
}
"""Residual blocks after the strided convolution of each of the four stages."""

WIDTHS = (64, 128, 256, 512)
SLIM_WIDTHS = (16, 32, 64, 128)
"""Channels of the four stages: as published, and a quarter for sets of a few hundred images."""


def _conv3x3(inputs: int, outputs: int, stride: int = 1, *, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv3x3(inputs, outputs, stride=2, bias=True)
        self.act = nn.ReLU(inplace=True)
        nn.init.xavier_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(x))
        return out


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(width, width, bias=True)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(width, width, bias=True)
        self.act2 = nn.ReLU(inplace=True)
        # So near zero that the block starts as the identity: nothing else tames a deep net here.
        nn.init.normal_(self.conv1.weight, std=0.01)
        nn.init.normal_(self.conv2.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.act2(self.conv2(self.act1(self.conv1(x))))
        return branch + x


class _DownBN(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        _init_before_norm(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        return out


class _ResidualBN(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(width, width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(width, width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        _init_before_norm(self.conv1)
        _init_before_norm(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(branch + x)
        return out


def _init_before_norm(conv: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def _stages(
    down: Callable[[int, int], nn.Module],
    residual: Callable[[int], nn.Module],
    blocks: Sequence[int],
    widths: Sequence[int],
    channels: int,
) -> list[nn.Sequential]:
    return [
        nn.Sequential(down(inputs, outputs), *(residual(outputs) for _ in range(count)))
        for inputs, outputs, count in zip((channels, *widths[:-1]), widths, blocks, strict=True)
    ]


class SFNet(nn.Module):
    """Float [B, channels, image_size, image_size] to [B, embedding_size], not normalised.

    Args:
        blocks: residual blocks in each of the four stages, 0 or more.
        widths: channels of the stages.
        embedding_size, image_size, channels: as for `registry.build_backbone`, which checks them.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int] = WIDTHS,
        *,
        embedding_size: int,
        image_size: int,
        channels: int,
    ) -> None:
        super().__init__()
        stages = _stages(_Down, _Residual, blocks, widths, channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(widths[3] * (image_size // 16) ** 2, embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        embeddings: Tensor = self.fc(torch.flatten(x, 1))
        return embeddings


class SFNetBN(nn.Module):
    """`SFNet` with a BatchNorm after every convolution and one on the embedding.

    Arguments, input and output as `SFNet`.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int] = WIDTHS,
        *,
        embedding_size: int,
        image_size: int,
        channels: int,
    ) -> None:
        super().__init__()
        stages = _stages(_DownBN, _ResidualBN, blocks, widths, channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(widths[3] * (image_size // 16) ** 2, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        embeddings: Tensor = self.features(self.fc(torch.flatten(x, 1)))
        return embeddings
