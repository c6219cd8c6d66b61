"""Names and shapes of the states, against lists spelt out here from the published networks.

Nothing below uses the networks' own code: published weights must load with strict=True, so a
renamed tensor is an error even where every forward pass still works.
"""

from __future__ import annotations

import math

import pytest
import torch

from sf2cli.backbones.registry import build_backbone

Shapes = dict[str, tuple[int, ...]]

STAGES = (64, 128, 256, 512)


def norm(name: str, width: int) -> Shapes:
    learnt: Shapes = {f"{name}.{part}": (width,) for part in ("weight", "bias")}
    tracked: Shapes = {f"{name}.running_{part}": (width,) for part in ("mean", "var")}
    return {**learnt, **tracked, f"{name}.num_batches_tracked": ()}


def iresnet(blocks: tuple[int, ...], channels: int = 3, size: int = 112, d: int = 512) -> Shapes:
    shapes: Shapes = {"conv1.weight": (64, channels, 3, 3), "prelu.weight": (64,)}
    shapes |= norm("bn1", 64)
    inputs = 64
    for stage, (width, count) in enumerate(zip(STAGES, blocks, strict=True), start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            shapes |= norm(f"{at}.bn1", inputs)
            shapes[f"{at}.conv1.weight"] = (width, inputs, 3, 3)
            shapes |= norm(f"{at}.bn2", width)
            shapes[f"{at}.prelu.weight"] = (width,)
            shapes[f"{at}.conv2.weight"] = (width, width, 3, 3)
            shapes |= norm(f"{at}.bn3", width)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (width, inputs, 1, 1)
                shapes |= norm(f"{at}.downsample.1", width)
            inputs = width
    shapes |= norm("bn2", 512) | norm("features", d)
    return {**shapes, "fc.weight": (d, 512 * (size // 16) ** 2), "fc.bias": (d,)}


def sfnet(blocks: tuple[int, ...], batch_norm: bool, widths: tuple[int, ...] = STAGES) -> Shapes:
    shapes: Shapes = {}
    inputs = 3

    def conv(name: str, number: str, fan_in: int, width: int) -> None:
        shapes[f"{name}.conv{number}.weight"] = (width, fan_in, 3, 3)
        if batch_norm:
            shapes.update(norm(f"{name}.bn{number}", width))
        else:
            shapes[f"{name}.conv{number}.bias"] = (width,)

    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        conv(f"layer{stage}.0", "1" if batch_norm else "", inputs, width)
        for block in range(1, count + 1):
            conv(f"layer{stage}.{block}", "1", width, width)
            conv(f"layer{stage}.{block}", "2", width, width)
        inputs = width
    if batch_norm:
        shapes |= norm("features", 512)
    return {**shapes, "fc.weight": (512, widths[-1] * 49), "fc.bias": (512,)}


def mobilefacenet() -> Shapes:
    shapes: Shapes = {}

    def unit(name: str, outputs: int, fan_in: int, kernel: int, prelu: bool = True) -> None:
        shapes[f"{name}.layers.0.weight"] = (outputs, fan_in, kernel, kernel)
        shapes.update(norm(f"{name}.layers.1", outputs))
        if prelu:
            shapes[f"{name}.layers.2.weight"] = (outputs,)

    def bottleneck(name: str, inputs: int, hidden: int, outputs: int) -> None:
        unit(f"{name}.layers.0", hidden, inputs, 1)
        unit(f"{name}.layers.1", hidden, 1, 3)
        unit(f"{name}.layers.2", outputs, hidden, 1, prelu=False)

    unit("layers.0", 128, 3, 3)
    unit("layers.1", 128, 2, 3)
    bottleneck("layers.2", 128, 128, 128)
    bottleneck("layers.4", 128, 256, 256)
    bottleneck("layers.6", 256, 512, 256)
    for place, count, width in ((3, 4, 128), (5, 6, 256), (7, 2, 256)):
        for block in range(count):
            bottleneck(f"layers.{place}.layers.{block}", width, width, width)
    unit("conv_sep", 512, 256, 1)
    unit("features.layers.0", 512, 1, 7, prelu=False)
    shapes |= norm("features.layers.3", 512)
    return {**shapes, "features.layers.2.weight": (512, 512)}


def glyphnet() -> Shapes:
    shapes: Shapes = {}

    def unit(name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
        shapes[f"{name}.0.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update(norm(f"{name}.1", outputs))
        shapes[f"{name}.2.weight"] = (outputs,)

    unit("body.0", 3, 24, kernel=5)
    unit("body.1", 24, 48)
    unit("body.3", 48, 96)
    for place, width in ((2, 48), (4, 96)):
        for half in (0, 1):
            unit(f"body.{place}.branch.{half}", width, width)
    statistics = {k: v for k, v in norm("features", 512).items() if "running" in k or "num" in k}
    return {**shapes, "fc.weight": (512, 96 * 14 * 14), **statistics}


EXPECTED = {
    "iresnet18": iresnet((2, 2, 2, 2)),
    "iresnet34": iresnet((3, 4, 6, 3)),
    "iresnet50": iresnet((3, 4, 14, 3)),
    "iresnet100": iresnet((3, 13, 30, 3)),
    "iresnet200": iresnet((6, 26, 60, 6)),
    "sfnet4": sfnet((0, 0, 0, 0), batch_norm=False),
    "sfnet10": sfnet((0, 1, 2, 0), batch_norm=False),
    "sfnet20": sfnet((1, 2, 4, 1), batch_norm=False),
    "sfnet36": sfnet((2, 4, 8, 2), batch_norm=False),
    "sfnet64": sfnet((3, 8, 16, 3), batch_norm=False),
    "sfnet4_bn": sfnet((0, 0, 0, 0), batch_norm=True),
    "sfnet10_bn": sfnet((0, 1, 2, 0), batch_norm=True),
    "sfnet20_bn": sfnet((1, 2, 4, 1), batch_norm=True),
    "sfnet36_bn": sfnet((2, 4, 8, 2), batch_norm=True),
    "sfnet64_bn": sfnet((3, 8, 16, 3), batch_norm=True),
    "sfnet4_slim_bn": sfnet((0, 0, 0, 0), batch_norm=True, widths=(16, 32, 64, 128)),
    "mobilefacenet": mobilefacenet(),
    "glyphnet": glyphnet(),
}


def shapes_of(name: str, **sizes: int) -> Shapes:
    with torch.device("meta"):
        state = build_backbone(name, **sizes).state_dict()  # type: ignore[arg-type]
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_names_and_shapes(name: str) -> None:
    assert shapes_of(name) == EXPECTED[name]


def test_sizes_change_the_ends_alone() -> None:
    expected = iresnet((2, 2, 2, 2), channels=1, size=64, d=100)
    assert shapes_of("iresnet18", channels=1, image_size=64, embedding_size=100) == expected


def test_iresnet50_adds_up_to_the_published_size() -> None:
    """43.59M, from the list above and not from the network."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    total = sum(
        math.prod(shape)
        for name, shape in EXPECTED["iresnet50"].items()
        if not name.endswith(buffers)
    )
    assert round(total / 1e6, 2) == 43.59


def test_iresnet_holds_the_embedding_scale_at_one() -> None:
    backbone = build_backbone("iresnet18", embedding_size=8, image_size=16)
    held = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert held == {"features.weight"}
    assert torch.equal(backbone.state_dict()["features.weight"], torch.ones(8))


def test_initial_spread_of_the_convolutions() -> None:
    """The standard deviations on record for each family."""
    torch.manual_seed(0)
    iresnet18 = build_backbone("iresnet18", embedding_size=8, image_size=16).state_dict()
    sfnet10 = build_backbone("sfnet10", embedding_size=8, image_size=16).state_dict()
    with_norm = build_backbone("sfnet10_bn", embedding_size=8, image_size=16).state_dict()
    mobile = build_backbone("mobilefacenet", embedding_size=8, image_size=16).state_dict()
    spreads = {
        0.1: iresnet18["layer3.0.conv2.weight"],
        0.01: sfnet10["layer3.1.conv2.weight"],
        math.sqrt(2 / (9 * (128 + 256))): sfnet10["layer3.0.conv.weight"],
        math.sqrt(2 / (9 * 256)): with_norm["layer3.1.conv2.weight"],
        math.sqrt(2 / 512): mobile["conv_sep.layers.0.weight"],
    }
    for spread, weight in spreads.items():
        assert float(weight.std()) == pytest.approx(spread, rel=0.02)
