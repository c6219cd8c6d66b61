"""From the MODEL on the command line to an embedder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sf2cli import console
from sf2cli.backbones.published import load_published
from sf2cli.backbones.saved import CARD_NAME, Preprocessing, load_model, trained_mirrored
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import NetworkEmbedder, torch_network
from sf2cli.evaluation.embedder import Embedder, EmbedderCard
from sf2cli.evaluation.feature_file import EMBEDDINGS_NAME, open_features
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.onnx_embedder import open_onnx

_FEATURES = (".npy", ".npz")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")


def open_embedder(path: Path, said: InputOptions | None = None) -> Embedder:
    """Whatever can be evaluated, on a GPU where torch has one and can run it.

    Args:
        path: a run or model folder of sf2; a file of weights in InsightFace's or opensphere's
            names; an ONNX file; a .npy or .npz of features, or a folder that `sf2 embed` wrote.
        said: what the user says of the model's input.

    Raises:
        Sf2Error: there is no such thing, it is damaged or none of these, or an option does not go
            with it.
    """
    said = said or InputOptions()
    kind = path.suffix.lower()
    is_features = kind in _FEATURES or (path / EMBEDDINGS_NAME).is_file()
    if said.keys is not None and not is_features:
        raise Sf2Error(
            f"--keys {said.keys}: {path} holds no features", "Leave --keys out: it names rows."
        )
    if is_features:
        return open_features(path, said)
    if kind == ".onnx":
        return open_onnx(path, said)
    if kind not in _WEIGHTS and path.is_file():
        raise Sf2Error(
            f"model {path}: found {kind or 'no suffix'}, expected a run or model folder or one of"
            f" {', '.join((*_WEIGHTS, '.onnx', *_FEATURES))}",
            "`sf2 train` writes run folders.",
        )
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if kind in _WEIGHTS and not (path.parent / CARD_NAME).is_file():
        return _open_published(path, said, device)
    # Weights with a card beside them are one of sf2's models.
    return _open_sf2(path.parent if kind in _WEIGHTS else path, said, device)


def _open_sf2(path: Path, said: InputOptions, device: str) -> Embedder:
    module, made = load_model(path, device)
    _check_size(path, said, made.backbone.image_size)
    if said.mean is not None or said.scale is not None:
        # With --compare they may be meant for another model beside this one.
        console.warn(f"{path}: --mean and --scale are not used, for {CARD_NAME} has them")
        said = replace(said, mean=None, scale=None)
    card = EmbedderCard(
        place=path,
        kind="sf2 model",
        network=made.backbone.name,
        embedding_size=made.backbone.embedding_size,
        image_size=made.backbone.image_size,
        preprocessing=_preprocessing(path, said, made.preprocessing),
        mirrored=trained_mirrored(made.training) if said.mirrored is None else said.mirrored,
        sha256=made.weights_sha256,
        head=made.head,
        training=made.training,
    )
    return NetworkEmbedder(card, torch_network(module, card), device)


def _open_published(path: Path, said: InputOptions, device: str) -> Embedder:
    found = load_published(path, device)
    _check_size(path, said, found.backbone.image_size)
    usual = Preprocessing.for_channels(found.backbone.channels)
    card = EmbedderCard(
        place=path,
        kind=f"weights in {found.names}",
        network=found.backbone.name,
        embedding_size=found.backbone.embedding_size,
        image_size=found.backbone.image_size,
        preprocessing=_preprocessing(path, said, usual),
        mirrored=said.mirrored is not False,
        sha256=found.sha256,
    )
    return NetworkEmbedder(card, torch_network(found.module, card), device)


def _check_size(path: Path, said: InputOptions, size: int) -> None:
    if said.image_size not in (None, size):
        raise Sf2Error(
            f"--image-size {said.image_size}: {path} takes images of {size} x {size}",
            "Leave --image-size out.",
        )


def _preprocessing(path: Path, said: InputOptions, usual: Preprocessing) -> Preprocessing:
    found = said.preprocessing(usual)
    if found.channels != usual.channels:
        raise Sf2Error(
            f"--colour {found.colour}: {path} takes images of {usual.channels} colour(s)",
            "Leave --colour out.",
        )
    return found
