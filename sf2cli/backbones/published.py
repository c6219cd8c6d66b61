"""Backbones trained elsewhere, recognised by the names and shapes of their tensors.

InsightFace (arcface_torch): IResNet 18 to 200 and MobileFaceNet.
opensphere: SFNet, with BatchNorm and without, and IResNet with InsightFace's names and shapes.

Both take RGB, a pixel p as (p - 127.5) / 127.5, and embed as f(x) + f(x mirrored left to right);
opensphere halves the sum, which a cosine does not see. Both train on faces aligned to 112 x 112.
opensphere's checkpoints hold the backbone beside the head, and either project's may come from a
wrapped module: what stands around the names is taken off.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from sf2cli.backbones import iresnet, sfnet
from sf2cli.backbones.saved import BackboneCard, empty_backbone, first_few, misfits
from sf2cli.errors import Sf2Error

# The dictionaries a state may lie in, and the wrappers whose names it may carry.
_HOLDERS = ("backbone", "state_dict_backbone", "state_dict", "model", "net")
_WRAPPERS = ("module.", "_orig_mod.", "backbone.", "model.", "net.")
_REMEDY = (
    "Known are InsightFace's IResNet and MobileFaceNet and opensphere's SFNet and IResNet. Export"
    " another network to ONNX and name that file."
)


@dataclass(frozen=True)
class Published:
    """A backbone with its weights, in evaluation mode, and whose names it has."""

    module: nn.Module
    backbone: BackboneCard
    names: str
    sha256: str


def load_published(path: Path, device: str | torch.device = "cpu") -> Published:
    """Load a .safetensors, .pt or .pth file of tensors; nothing in it is run.

    Raises:
        Sf2Error: unreadable, more than tensors in it, or no network that is known: the message
            names the tensors that do not fit.
    """
    data = _read(path)
    state = _plain(_tensors(path, data))
    backbone, names = _recognise(path, state)
    module = empty_backbone(backbone)
    expected = module.state_dict()
    for name in expected.keys() - state.keys():
        # How many batches were seen: of no use in evaluation, and left out by some converters.
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
    if wrong := misfits(state, module):
        raise Sf2Error(
            f"{path}: like {backbone.name} ({names}), but {first_few(wrong, 5)}", _REMEDY
        )
    module.load_state_dict(state, assign=True)
    return Published(module.to(device).eval(), backbone, names, hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise Sf2Error(
            f"model {path}: cannot be read ({failure.strerror})", "Name a file of weights."
        ) from None


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load(data)
        except SafetensorError as failure:
            raise Sf2Error(f"{path}: not a whole safetensors file ({failure})", _REMEDY) from None
    try:
        content: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as failure:
        reason = str(failure).splitlines()[0]
        raise Sf2Error(
            f"{path}: holds more than tensors, and is not run ({reason:.120})",
            "Save the state_dict alone: torch.save(model.state_dict(), FILE).",
        ) from None
    except Exception as failure:  # bytes that are no such file make it fail in many ways
        reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
        raise Sf2Error(f"{path}: not a whole file of torch's ({reason:.120})", _REMEDY) from None
    while isinstance(content, dict) and not _is_state(content):
        holder = next((name for name in _HOLDERS if isinstance(content.get(name), dict)), None)
        if holder is None:
            break
        content = content[holder]
    if not isinstance(content, dict) or not _is_state(content):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else str(type(content))
        raise Sf2Error(f"{path}: no state_dict in it, found {found:.120}", _REMEDY)
    return dict(content)


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the wrappers that all of them carry; floats in fp32."""
    names = list(state)
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in names)), None):
        names = [name[len(wrapper) :] for name in names]
    return {
        name: (value.float() if value.is_floating_point() else value).contiguous()
        for name, value in zip(names, state.values(), strict=True)
    }


def _recognise(path: Path, state: Mapping[str, Tensor]) -> tuple[BackboneCard, str]:
    """The network whose tensors these look to be, by the few that tell."""
    try:
        if "conv_sep.layers.0.weight" in state:
            return _mobilefacenet(state), "InsightFace's names"
        if "layer1.0.conv.weight" in state:
            name = _layout(state, sfnet.LAYOUTS)
            return _with_fc(name, state, "layer1.0.conv.weight"), "opensphere's names"
        if "prelu.weight" in state and "layer1.0.conv1.weight" in state:
            name = _layout(state, iresnet.LAYOUTS)
            return _with_fc(name, state, "conv1.weight"), "InsightFace's names"
        if "layer1.0.conv1.weight" in state:
            slim = len(state["layer1.0.conv1.weight"]) == sfnet.SLIM_WIDTHS[0]
            name = f"{_layout(state, sfnet.LAYOUTS)}{'_slim' if slim else ''}_bn"
            return _with_fc(name, state, "layer1.0.conv1.weight"), "opensphere's names"
    except (KeyError, IndexError) as failure:
        raise Sf2Error(f"{path}: {failure.args[0]} does not fit any network", _REMEDY) from None
    found = first_few([f"{name} {list(value.shape)}" for name, value in state.items()], 5)
    raise Sf2Error(f"{path}: no network that is known; its tensors are {found}", _REMEDY)


def _layout(state: Mapping[str, Tensor], layouts: Mapping[str, tuple[int, int, int, int]]) -> str:
    """The name of the layout with as many blocks; SFNet counts from the second on."""
    first = 1 if layouts is sfnet.LAYOUTS else 0
    blocks = [0, 0, 0, 0]
    for name in state:
        if found := re.match(r"layer([1-4])\.(\d+)\.", name):
            stage = int(found[1]) - 1
            blocks[stage] = max(blocks[stage], int(found[2]) + 1 - first)
    for layout, counts in layouts.items():
        if list(counts) == blocks:
            return layout
    raise KeyError(f"a network of {'-'.join(map(str, blocks))} blocks in layer1 to layer4")


def _with_fc(name: str, state: Mapping[str, Tensor], first: str) -> BackboneCard:
    width = len(state[_last_conv(state)])
    size, inputs = state["fc.weight"].shape
    return BackboneCard(
        name=name,
        embedding_size=size,
        image_size=16 * math.isqrt(inputs // width),
        channels=state[first].shape[1],
    )


def _last_conv(state: Mapping[str, Tensor]) -> str:
    return [name for name in state if re.match(r"layer4\..*conv\d?\.weight", name)][-1]


def _mobilefacenet(state: Mapping[str, Tensor]) -> BackboneCard:
    return BackboneCard(
        name="mobilefacenet",
        embedding_size=len(state["features.layers.2.weight"]),
        image_size=16 * state["features.layers.0.layers.0.weight"].shape[2],
        channels=state["layers.0.layers.0.weight"].shape[1],
    )
