"""The backbones by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from sf2cli.backbones import iresnet, sfnet
from sf2cli.backbones.glyphnet import GlyphNet
from sf2cli.backbones.mobilefacenet import MobileFaceNet
from sf2cli.errors import Sf2Error, did_you_mean

_STRIDE = 16

_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(iresnet.IResNet, blocks) for name, blocks in iresnet.LAYOUTS.items()},
    **{name: partial(sfnet.SFNet, blocks) for name, blocks in sfnet.LAYOUTS.items()},
    **{f"{name}_bn": partial(sfnet.SFNetBN, blocks) for name, blocks in sfnet.LAYOUTS.items()},
    "sfnet4_slim_bn": partial(sfnet.SFNetBN, sfnet.LAYOUTS["sfnet4"], sfnet.SLIM_WIDTHS),
    "mobilefacenet": MobileFaceNet,
    "glyphnet": GlyphNet,
}


def backbone_names() -> list[str]:
    """Every name `build_backbone` knows, families together, small to large."""
    return list(_FACTORIES)


def build_backbone(
    name: str, *, embedding_size: int = 512, image_size: int = 112, channels: int = 3
) -> nn.Module:
    """A new backbone with initial weights from torch's global generator, in training mode.

    It maps float [B, channels, image_size, image_size], scaled to [-1, 1], to embeddings
    [B, embedding_size] that are not normalised.

    Args:
        name: one of `backbone_names()`.
        embedding_size: at least 1.
        image_size: side in pixels, a positive multiple of 16 (every backbone halves it 4 times).
        channels: 3 for RGB, 1 for grey.

    Raises:
        Sf2Error: an unknown name or a value out of range.
    """
    if name not in _FACTORIES:
        raise Sf2Error(
            f"backbone name: found {name!r}, which is not a backbone"
            f"{did_you_mean(name, _FACTORIES)}",
            f"Use one of {', '.join(_FACTORIES)}.",
        )
    if embedding_size < 1:
        raise Sf2Error(
            f"backbone embedding_size: found {embedding_size}, expected 1 or more",
            "Use 512, as the published models do.",
        )
    if image_size < _STRIDE or image_size % _STRIDE:
        nearest = max(_STRIDE, round(image_size / _STRIDE) * _STRIDE)
        raise Sf2Error(
            f"backbone image_size: found {image_size}, expected a positive multiple of {_STRIDE}",
            f"Use {nearest}, the nearest; published models use 112.",
        )
    if channels not in (1, 3):
        raise Sf2Error(
            f"backbone channels: found {channels}, expected 1 (grey) or 3 (RGB)",
            "Use the channels of the packed set's images.",
        )
    return _FACTORIES[name](embedding_size=embedding_size, image_size=image_size, channels=channels)
