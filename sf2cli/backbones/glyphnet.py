"""GlyphNet: a network for pictures of 32 pixels, small enough to compare losses with on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (24, 48, 96)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_conv(width, width), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


class GlyphNet(nn.Module):
    """Float [B, channels, image_size, image_size] to [B, embedding_size], not normalised.

    The last BatchNorm has no parameters of its own: a scale there would fight with the head's.

    Args:
        embedding_size, image_size, channels: as for `registry.build_backbone`, which checks them.
    """

    def __init__(self, *, embedding_size: int, image_size: int, channels: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.body = nn.Sequential(
            _conv(channels, first, kernel=5, stride=2),
            _conv(first, second, stride=2),
            _Residual(second),
            _conv(second, third, stride=2),
            _Residual(third),
        )
        self.fc = nn.Linear(third * (image_size // 8) ** 2, embedding_size, bias=False)
        self.features = nn.BatchNorm1d(embedding_size, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.body(images)
        embeddings: Tensor = self.features(self.fc(torch.flatten(x, 1)))
        return embeddings
