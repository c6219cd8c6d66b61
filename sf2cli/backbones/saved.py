"""The finished model on disk: what `sf2 train` leaves and `sf2 eval` reads.

A folder of files: model.safetensors, the backbone's tensors in fp32; model.json, which says what
network they are for and how its input is made; and identities.npy, hashes of the names of those it
was trained on. It is whole or absent: written beside its place, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sf2cli.backbones.identities import IDENTITIES_NAME, identities_file
from sf2cli.backbones.registry import build_backbone
from sf2cli.errors import Sf2Error
from sf2cli.files import write_through

CARD_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"
_NAMES = {CARD_NAME, WEIGHTS_NAME, IDENTITIES_NAME}

_REMEDY = "Copy the model again from where it was trained, or train it again."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneCard(_Frozen):
    """The arguments of `registry.build_backbone`."""

    name: str
    embedding_size: int
    image_size: int
    channels: int


class Preprocessing(_Frozen):
    """How 8-bit pixels become the backbone's input: (pixel - mean) / scale, in that colour order.

    sf2 trains on RGB or grey (L); models from elsewhere may want BGR.
    """

    mean: float = 127.5
    scale: float = Field(127.5, gt=0)
    colour: Literal["RGB", "BGR", "L"]

    @property
    def channels(self) -> int:
        return 1 if self.colour == "L" else 3

    @classmethod
    def for_channels(cls, channels: int) -> Preprocessing:
        """Pixels to [-1, 1], for RGB (3 channels) or grey (1)."""
        return cls(colour="L" if channels == 1 else "RGB")


class ModelCard(_Frozen):
    """The content of model.json. `head` and `training` inform; loading does not read them."""

    format: Literal["sf2-model"] = "sf2-model"
    version: Literal[1] = 1
    backbone: BackboneCard
    preprocessing: Preprocessing
    head: dict[str, Any]
    training: dict[str, Any]
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_colour(self) -> ModelCard:
        if self.preprocessing.channels != self.backbone.channels:
            raise ValueError("preprocessing.colour does not fit backbone.channels")
        return self


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [B, C, H, W], RGB or grey, to float32 of the same shape and memory format.

    Raises:
        ValueError: not uint8; floats may have been normalised already.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"normalise: expected uint8 images, found {images.dtype}")
    if preprocessing.colour == "BGR":
        images = images.flip(1)
    return images.float().sub_(preprocessing.mean).div_(preprocessing.scale)


def save_model(
    folder: Path,
    module_state: Mapping[str, Tensor],
    *,
    backbone: Mapping[str, Any],
    head: Mapping[str, Any],
    training: Mapping[str, Any],
    identities: Sequence[str] = (),
) -> None:
    """Write the model folder, whole or not at all; an earlier model there is replaced.

    Args:
        module_state: the backbone's state_dict, on any device, floats in any type.
        backbone: the fields of `BackboneCard`.
        head: loss, hyper-parameters, bias, number of classes; JSON values.
        training: where the model came from; JSON values.
        identities: the names of those it was trained on; hashes of them are kept.

    Raises:
        Sf2Error: the tensors are not those of the backbone, the folder holds other files, or the
            disk refuses.
    """
    folder = folder.resolve()
    made_for = BackboneCard.model_validate(dict(backbone))
    state = {name: _portable(tensor) for name, tensor in module_state.items()}
    _check_fit(f"model {folder}: cannot be saved", state, empty_backbone(made_for))
    weights = save(state)
    card = ModelCard(
        backbone=made_for,
        preprocessing=Preprocessing.for_channels(made_for.channels),
        head=dict(head),
        training=dict(training),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    files = {WEIGHTS_NAME: weights, CARD_NAME: (card.model_dump_json(indent=2) + "\n").encode()}
    if identities:
        files[IDENTITIES_NAME] = identities_file(identities)
    try:
        _replace(folder, files)
    except OSError as failure:
        raise Sf2Error(
            f"model {folder}: cannot be written ({failure.strerror})",
            "Free disk space or choose a folder you may write to.",
        ) from None


def load_model(folder: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelCard]:
    """The backbone with its weights, in evaluation mode, and its card.

    Args:
        folder: what `save_model` wrote, or a run folder with such a folder `model` in it.

    Raises:
        Sf2Error: a folder or file is missing, unreadable, damaged or of another network.
    """
    home = _model_folder(folder)
    card = _read_card(home / CARD_NAME)
    path = home / WEIGHTS_NAME
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})", _REMEDY) from None
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights_sha256:
        hashes = f"its SHA-256 is {found[:12]}..., {CARD_NAME} says {card.weights_sha256[:12]}..."
        raise Sf2Error(f"{path}: damaged: {hashes}", _REMEDY)
    try:
        state = load(data)
    except SafetensorError as failure:
        raise Sf2Error(f"{path}: not a safetensors file ({failure})", _REMEDY) from None
    try:
        module = empty_backbone(card.backbone)
    except Sf2Error as failure:
        raise Sf2Error(f"{home / CARD_NAME}: {failure.message}", failure.remedy) from None
    _check_fit(f"{path}: not the weights of {card.backbone.name}", state, module)
    module.load_state_dict(state, assign=True)
    return module.to(device).eval(), card


def _portable(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


class _NoDraws(TorchFunctionMode):
    """Leaves tensors undrawn: a normal draw on the meta device imports torch's compiler (2 s)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def empty_backbone(card: BackboneCard) -> nn.Module:
    """The network without weights: on the meta device, drawing nothing from any generator.

    Raises:
        Sf2Error: no such backbone.
    """
    with torch.device("meta"), _NoDraws():
        return build_backbone(**card.model_dump())


def misfits(state: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    """In what a state differs from that of `module`, by tensor: names, shapes, types."""
    expected = module.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is unexpected" for name in state if name not in expected]
    for name in expected.keys() & state.keys():
        want, have = expected[name], state[name]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            wrong.append(f"{name} is {_kind(have)}, expected {_kind(want)}")
    return wrong


def first_few(found: Sequence[str], shown: int = 3) -> str:
    """Some of many things, and how many more there are."""
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return f"{'; '.join(found[:shown])}{more}"


def _check_fit(what: str, state: Mapping[str, Tensor], module: nn.Module) -> None:
    if wrong := misfits(state, module):
        raise Sf2Error(
            f"{what}: {first_few(wrong)}",
            "Name the backbone, embedding_size, image_size and channels it was trained with.",
        )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    partial = folder.with_name(f".{folder.name}-partial")
    previous = folder.with_name(f".{folder.name}-previous")
    if folder.exists():
        foreign = sorted({entry.name for entry in folder.iterdir()} - _NAMES)
        if foreign:
            raise Sf2Error(
                f"model {folder}: would replace a folder that also holds {foreign[0]}",
                "Choose a folder that does not exist yet, or move the other files away.",
            )
        shutil.rmtree(previous, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        write_through(partial / name, data)
    if folder.exists():
        folder.rename(previous)
    try:
        partial.rename(folder)
    except OSError:
        if previous.exists():
            previous.rename(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _model_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise Sf2Error(
            f"model {folder}: no such folder", "Name a run folder or the `model` folder in it."
        )
    home = folder if (folder / CARD_NAME).exists() else folder / "model"
    if not (home / CARD_NAME).exists():
        raise Sf2Error(
            f"model {folder}: neither {CARD_NAME} nor model/{CARD_NAME} in it",
            "`sf2 train` writes the model when it ends: finish the run with --resume.",
        )
    return home


def _read_card(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})", _REMEDY) from None
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise Sf2Error(f"{path}: {where}: {first['msg']}", _REMEDY) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise Sf2Error(f"{path}: not JSON ({failure})", _REMEDY) from None


def trained_mirrored(training: Mapping[str, Any]) -> bool:
    """Whether a model, by what its card says of its training, embeds f(x) + f(x mirrored).

    One that never saw mirrored images embeds f(x): a mirrored character is another one, or none.
    """
    flipped: bool = training.get("recipe", {}).get("data", {}).get("flip", True)
    return flipped
