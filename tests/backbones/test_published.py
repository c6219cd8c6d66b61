"""Weights from elsewhere load by their names and shapes, and embed as those who made them say.

The networks below are written out by functions on a dict of tensors, from the published
architectures, and share nothing with the package's modules.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from sf2cli.backbones.published import load_published
from sf2cli.backbones.saved import Preprocessing
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.open_embedder import open_embedder

State = dict[str, Tensor]
WIDTHS = (64, 128, 256, 512)


def norm(state: State, name: str, width: int, draw: torch.Generator) -> None:
    state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=draw)
    state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=draw)
    state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=draw)
    state[f"{name}.running_var"] = 1 + 0.1 * torch.rand(width, generator=draw)
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def filters(outputs: int, inputs: int, edge: int, draw: torch.Generator) -> Tensor:
    scale = math.sqrt(2 / (inputs * edge * edge))
    return scale * torch.randn(outputs, inputs, edge, edge, generator=draw)


def insightface_iresnet(
    blocks: tuple[int, ...] = (2, 2, 2, 2), size: int = 112, d: int = 512
) -> State:
    """arcface_torch's IResNet: every name and shape, with random values."""
    draw = torch.Generator().manual_seed(5)
    state: State = {"conv1.weight": filters(64, 3, 3, draw), "prelu.weight": torch.full((64,), 0.2)}
    norm(state, "bn1", 64, draw)
    inputs = 64
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            norm(state, f"{at}.bn1", inputs, draw)
            state[f"{at}.conv1.weight"] = filters(width, inputs, 3, draw)
            norm(state, f"{at}.bn2", width, draw)
            state[f"{at}.prelu.weight"] = 0.3 * torch.rand(width, generator=draw)
            state[f"{at}.conv2.weight"] = filters(width, width, 3, draw)
            norm(state, f"{at}.bn3", width, draw)
            if block == 0:
                state[f"{at}.downsample.0.weight"] = filters(width, inputs, 1, draw)
                norm(state, f"{at}.downsample.1", width, draw)
            inputs = width
    norm(state, "bn2", 512, draw)
    cells = (size // 16) ** 2
    state["fc.weight"] = torch.randn(d, 512 * cells, generator=draw) / math.sqrt(512 * cells)
    state["fc.bias"] = 0.1 * torch.randn(d, generator=draw)
    norm(state, "features", d, draw)
    return state


def opensphere_sfnet(blocks: tuple[int, ...] = (1, 2, 4, 1), d: int = 512) -> State:
    """opensphere's SFNet without BatchNorm, 20 layers by default."""
    draw = torch.Generator().manual_seed(6)
    state: State = {}
    inputs = 3
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
        state[f"layer{stage}.0.conv.weight"] = filters(width, inputs, 3, draw)
        state[f"layer{stage}.0.conv.bias"] = 0.1 * torch.randn(width, generator=draw)
        for block in range(1, count + 1):
            for conv in ("conv1", "conv2"):
                at = f"layer{stage}.{block}.{conv}"
                state[f"{at}.weight"] = 0.5 * filters(width, width, 3, draw)
                state[f"{at}.bias"] = 0.1 * torch.randn(width, generator=draw)
        inputs = width
    state["fc.weight"] = torch.randn(d, 512 * 49, generator=draw) / math.sqrt(512 * 49)
    state["fc.bias"] = 0.1 * torch.randn(d, generator=draw)
    return state


def normed(x: Tensor, state: State, name: str) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, var, weight, bias = (
        state[f"{name}.{part}"].double().reshape(shape)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slope.double().reshape(1, -1, 1, 1))


def forward_iresnet(state: State, x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"].double(), None, stride, padding)

    x = prelu(normed(conv(x, "conv1"), state, "bn1"), state["prelu.weight"])
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 else 1
            out = conv(normed(x, state, f"{at}.bn1"), f"{at}.conv1")
            out = prelu(normed(out, state, f"{at}.bn2"), state[f"{at}.prelu.weight"])
            out = normed(conv(out, f"{at}.conv2", stride), state, f"{at}.bn3")
            if block == 0:
                x = normed(conv(x, f"{at}.downsample.0", 2, 0), state, f"{at}.downsample.1")
            x = out + x
            block += 1
    x = normed(x, state, "bn2").flatten(1)
    return normed(x @ state["fc.weight"].double().T + state["fc.bias"].double(), state, "features")


def forward_sfnet(state: State, x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
        return F.relu(F.conv2d(x, weight, bias, stride, 1))

    for stage in range(1, 5):
        x = conv(x, f"layer{stage}.0.conv", 2)
        block = 1
        while f"layer{stage}.{block}.conv1.weight" in state:
            at = f"layer{stage}.{block}"
            x = x + conv(conv(x, f"{at}.conv1"), f"{at}.conv2")
            block += 1
    return x.flatten(1) @ state["fc.weight"].double().T + state["fc.bias"].double()


class Pictures:
    """Colour images of `size`: one of the published size, for it takes long, else two."""

    def __init__(self, size: int = 112) -> None:
        shape = (1 if size == 112 else 2, size, size, 3)
        self.images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, image_size: int, channels: int) -> np.ndarray:
        assert self.images[i].shape == (image_size, image_size, channels)
        return self.images[i]

    def source(self, i: int) -> str:
        return f"image {i}"


def by_definition(forward, state: State, images: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """f(x) + f(mirrored x), RGB, (p - 127.5) / 127.5, in float64."""
    x = (torch.from_numpy(images).double().permute(0, 3, 1, 2) - 127.5) / 127.5
    return (forward(state, x) + forward(state, x.flip(3))).numpy()


@pytest.mark.parametrize(
    ("file", "size"), [("w.pt", 112), ("w.safetensors", 48), ("nested.pth", 48)]
)
def test_insightface_iresnet_loads_by_itself_and_embeds_as_defined(
    tmp_path: Path, file: str, size: int
) -> None:
    state = insightface_iresnet(size=size)
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".pt":
        torch.save(state, path)
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 3, "state_dict_backbone": wrapped}, path)
    embedder = open_embedder(path)
    assert (embedder.card.network, embedder.card.image_size) == ("iresnet18", size)
    assert embedder.card.kind == "weights in InsightFace's names"
    assert embedder.card.preprocessing == Preprocessing(colour="RGB", mean=127.5, scale=127.5)
    faces = Pictures(size)
    expected = by_definition(forward_iresnet, state, faces.images)
    found = embedder.embed(faces, "test")
    assert found.shape == (len(faces), 512)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


def test_opensphere_sfnet_loads_by_itself_and_embeds_as_defined(tmp_path: Path) -> None:
    state = opensphere_sfnet()
    head = {"weight": torch.randn(512, 10), "b": torch.zeros(1)}
    torch.save({"backbone": state, "head": head}, tmp_path / "checkpoint_70000.pth")
    embedder = open_embedder(tmp_path / "checkpoint_70000.pth")
    assert embedder.card.network == "sfnet20"
    assert embedder.card.kind == "weights in opensphere's names"
    faces = Pictures()
    expected = by_definition(forward_sfnet, state, faces.images)
    found = embedder.embed(faces, "test")
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


def test_colour_mean_scale_and_mirror_can_be_told(tmp_path: Path) -> None:
    state = insightface_iresnet(size=32, d=8)
    save_file(state, tmp_path / "w.safetensors")
    said = InputOptions(colour="BGR", mean=127, scale=128, mirrored=False)
    embedder = open_embedder(tmp_path / "w.safetensors", said)
    assert embedder.card.image_size == 32
    faces = Pictures(32)
    bgr = torch.from_numpy(faces.images[:, :, :, ::-1].copy()).double().permute(0, 3, 1, 2)
    expected = forward_iresnet(state, (bgr - 127) / 128).numpy()
    np.testing.assert_allclose(
        embedder.embed(faces, "test"), expected, rtol=0, atol=2e-4 * np.abs(expected).max()
    )
    assert embedder.card.fingerprint != open_embedder(tmp_path / "w.safetensors").card.fingerprint


def test_half_precision_and_left_out_counters(tmp_path: Path) -> None:
    state = insightface_iresnet(size=16, d=8)
    kept = {n: v.half() for n, v in state.items() if not n.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / "w.pt")
    found = load_published(tmp_path / "w.pt")
    assert found.backbone.model_dump() == {
        "name": "iresnet18",
        "embedding_size": 8,
        "image_size": 16,
        "channels": 3,
    }
    assert {p.dtype for p in found.module.parameters()} == {torch.float32}
    assert not found.module.training


@pytest.mark.parametrize("name", ["sfnet4_slim_bn", "sfnet10_bn", "mobilefacenet", "iresnet34"])
def test_every_family_is_recognised(tmp_path: Path, name: str) -> None:
    from sf2cli.backbones.registry import build_backbone

    made = {"embedding_size": 24, "image_size": 48, "channels": 1}
    save_file(build_backbone(name, **made).state_dict(), tmp_path / "w.safetensors")
    assert load_published(tmp_path / "w.safetensors").backbone.model_dump() == {
        "name": name,
        **made,
    }


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.marker}",)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = insightface_iresnet(size=16, d=8)
    path = tmp_path / "w.pt"

    def refusal(content: object) -> str:
        torch.save(content, path)
        with pytest.raises(Sf2Error) as failure:
            load_published(path)
        return str(failure.value)

    renamed = {n.replace("layer3.1.bn2.bias", "layer3.1.bn2.beta"): v for n, v in state.items()}
    message = refusal(renamed)
    assert "like iresnet18 (InsightFace's names)" in message
    assert "layer3.1.bn2.bias is missing" in message
    assert "layer3.1.bn2.beta is unexpected" in message
    assert "features.bias is float32 [9], expected float32 [8]" in refusal(
        {**state, "features.bias": torch.ones(9)}
    )
    assert "2-2-9-2 blocks" in refusal({**state, "layer3.8.conv1.weight": torch.ones(1)})
    assert "fc.weight" in refusal({n: v for n, v in state.items() if n != "fc.weight"})
    assert "no network that is known; its tensors are body.0.weight [3]" in refusal(
        {"body.0.weight": torch.ones(3)}
    )
    assert "no state_dict in it, found epoch, step" in refusal({"epoch": 1, "step": 2})
    assert "holds more than tensors, and is not run" in refusal({"x": Hostile(tmp_path / "ran")})
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    with pytest.raises(Sf2Error, match="and is not run"):
        load_published(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_cut_short_or_missing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    with pytest.raises(Sf2Error, match="cannot be read"):
        load_published(path)
    save_file({"a": torch.ones(100)}, path) if suffix == ".safetensors" else torch.save({}, path)
    for data in (path.read_bytes()[:-40], b"", b"junk"):
        path.write_bytes(data)
        with pytest.raises(Sf2Error, match=f"w{suffix}: "):
            load_published(path)
