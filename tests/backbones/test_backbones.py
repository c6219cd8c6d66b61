"""Every backbone: sizes in and out, parameter counts, number formats, refusals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from sf2cli.backbones.registry import backbone_names, build_backbone
from sf2cli.errors import Sf2Error

SMALL = ["iresnet18", "sfnet4", "sfnet10", "sfnet4_bn", "sfnet10_bn", "mobilefacenet", "glyphnet"]

# 112 x 112 RGB, 512 dimensions. Arithmetic in test_backbone_layouts.py gives the same numbers;
# published figures agree to their last digit: 43.59M and 65.16M (IResNet-50, -100), 2.06M (mbf).
PARAMETERS = {
    "iresnet18": 24_025_600,
    "iresnet34": 34_139_328,
    "iresnet50": 43_590_848,
    "iresnet100": 65_156_160,
    "iresnet200": 118_833_920,
    "sfnet4": 14_396_544,
    "sfnet10": 17_052_032,
    "sfnet20": 24_500_992,
    "sfnet36": 34_605_440,
    "sfnet64": 50_020_864,
    "sfnet4_bn": 14_398_528,
    "sfnet10_bn": 17_055_296,
    "sfnet20_bn": 24_506_688,
    "sfnet36_bn": 34_614_848,
    "sfnet64_bn": 50_036_544,
    "sfnet4_slim_bn": 3_310_480,
    "mobilefacenet": 2_059_520,
    "glyphnet": 9_896_160,
}


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def images(batch: int, channels: int, size: int) -> torch.Tensor:
    return torch.rand(batch, channels, size, size) * 2 - 1


def test_the_registry_holds_what_is_counted_here() -> None:
    assert sorted(backbone_names()) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("size", "channels", "dimensions"), [(16, 1, 1), (112, 3, 512)])
def test_shapes_of_every_backbone(name: str, size: int, channels: int, dimensions: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(
            name, embedding_size=dimensions, image_size=size, channels=channels
        )
        assert backbone(torch.empty(2, channels, size, size)).shape == (2, dimensions)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("size", "channels", "dimensions"), [(64, 1, 7), (112, 3, 33), (128, 1, 1)]
)
def test_small_backbones_run(name: str, size: int, channels: int, dimensions: int) -> None:
    backbone = build_backbone(name, embedding_size=dimensions, image_size=size, channels=channels)
    with torch.no_grad():
        out = backbone.eval()(images(1, channels, size))
    assert out.shape == (1, dimensions)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_every_trainable_parameter_gets_a_gradient(name: str) -> None:
    backbone = build_backbone(name, embedding_size=16, image_size=32, channels=1)
    target = torch.randn(4, 16)
    (backbone(images(4, 1, 32)) - target).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", SMALL)
def test_channels_last_changes_nothing(name: str) -> None:
    backbone = build_backbone(name, embedding_size=16, image_size=48, channels=3).eval()
    batch = images(2, 3, 48)
    with torch.no_grad():
        expected = backbone(batch)
        backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        got = backbone(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("how", ["module", "autocast"])
def test_bf16_trains_and_stays_near_fp32(name: str, how: str) -> None:
    backbone = build_backbone(name, embedding_size=16, image_size=32, channels=1)
    batch = images(8, 1, 32)
    with torch.no_grad():
        expected = backbone(batch)
    if how == "module":
        got = backbone.bfloat16()(batch.bfloat16())
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = backbone(batch)
    got.float().square().sum().backward()
    cosine = nn.functional.cosine_similarity(got.float().flatten(), expected.flatten(), dim=0)
    assert cosine > 0.99
    gradients = [p.grad for p in backbone.parameters() if p.requires_grad]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build_backbone("sfnet4_bn", image_size=16, embedding_size=4).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_the_demo_net_fits_a_few_faces() -> None:
    """sfnet4_bn, 64 x 64 grey, 128 dimensions, with one logistic classifier an identity."""
    identities, shots = 8, 4
    backbone = build_backbone("sfnet4_bn", embedding_size=128, image_size=64, channels=1)
    classifiers = nn.Parameter(torch.randn(identities, 128) * 0.1)
    base = torch.rand(identities, 1, 1, 64, 64)
    noise = torch.rand(identities, shots, 1, 64, 64)
    batch = (base + noise - 1).flatten(0, 1)
    labels = torch.arange(identities).repeat_interleave(shots)
    wanted = nn.functional.one_hot(labels).float()
    optimizer = torch.optim.SGD([*backbone.parameters(), classifiers], lr=0.05, momentum=0.9)
    for _ in range(12):
        features = nn.functional.normalize(backbone(batch))
        logits = 20 * features @ nn.functional.normalize(classifiers).T - 8
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), labels)
    assert loss < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet50"}, r"name: found 'resnet50'.*\n.*iresnet50.*mobilefacenet"),
        ({"embedding_size": 0}, "embedding_size: found 0, expected 1 or more"),
        ({"image_size": 100}, r"image_size: found 100, expected .* multiple of 16\n.*Use 96"),
        ({"image_size": 0}, r"image_size: found 0, .*\n.*Use 16"),
        ({"image_size": -112}, "image_size: found -112"),
        ({"channels": 4}, "channels: found 4, expected 1 .* or 3"),
    ],
)
def test_refusals_name_field_value_and_remedy(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(Sf2Error, match=message):
        build_backbone(**{"name": "sfnet4", **arguments})  # type: ignore[arg-type]
