"""MobileFaceNet in InsightFace's wider form, `mbf`, tensor for tensor.

Source: deepinsight/insightface, recognition/arcface_torch/backbones/mobilefacenet.py, `get_mbf`
(blocks 1-4-6-2, scale 2); the design is that of Chen et al., arXiv 1804.07573. Names and shapes
of the state are the same, so weights published for 112 x 112 RGB load with strict=True.
"""

from __future__ import annotations

from torch import Tensor, nn


class _Layers(nn.Module):
    """A sequence under the name `layers`, where InsightFace's state has one."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Shortcut(_Layers):
    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.layers(x)
        return x + branch


def _linear_conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
) -> _Layers:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return _Layers(conv, nn.BatchNorm2d(outputs))


def _conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
) -> _Layers:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return _Layers(conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs))


def _bottleneck(inputs: int, hidden: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        _conv(inputs, hidden),
        _conv(hidden, hidden, 3, stride, 1, groups=hidden),
        _linear_conv(hidden, outputs),
    ]


def _down(inputs: int, hidden: int, outputs: int) -> _Layers:
    return _Layers(*_bottleneck(inputs, hidden, outputs, stride=2))


def _residuals(count: int, width: int, hidden: int) -> _Layers:
    return _Layers(*(_Shortcut(*_bottleneck(width, hidden, width, 1)) for _ in range(count)))


class MobileFaceNet(nn.Module):
    """Float [B, channels, image_size, image_size] to [B, embedding_size], not normalised.

    Args:
        embedding_size, image_size, channels: as for `registry.build_backbone`, which checks them.
    """

    def __init__(self, *, embedding_size: int, image_size: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(channels, 128, 3, 2, 1),
            # 64 groups of two channels: not depthwise, but what the published weights have.
            _conv(128, 128, 3, 1, 1, groups=64),
            _down(128, 128, 128),
            _residuals(4, 128, 128),
            _down(128, 256, 256),
            _residuals(6, 256, 256),
            _down(256, 512, 256),
            _residuals(2, 256, 256),
        )
        self.conv_sep = _conv(256, 512)
        self.features = _Layers(
            _linear_conv(512, 512, kernel=image_size // 16, groups=512),
            nn.Flatten(),
            nn.Linear(512, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.features(self.conv_sep(self.layers(images)))
        return embeddings
