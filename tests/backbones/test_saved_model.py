"""The model folder: an exact round trip, replaced whole, and refused by name when damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import (
    CARD_NAME,
    WEIGHTS_NAME,
    ModelCard,
    Preprocessing,
    load_model,
    normalise,
    save_model,
)
from sf2cli.errors import Sf2Error

CARD: dict[str, Any] = {
    "name": "mobilefacenet",
    "embedding_size": 8,
    "image_size": 16,
    "channels": 1,
}
HEAD = {"loss": "sphereface2", "r": 30.0, "bias": 3.25, "num_classes": 30}
TRAINING = {"steps": 7, "recipe": {"name": "toy"}}


def trained() -> nn.Module:
    """A backbone whose running statistics and counters have moved."""
    torch.manual_seed(3)
    backbone = build_backbone(**CARD)
    backbone(torch.randn(4, 1, 16, 16))
    return backbone


def put(folder: Path, backbone: nn.Module, head: dict[str, Any] | None = None) -> None:
    state = backbone.state_dict()
    save_model(folder, state, backbone=CARD, head=head or {}, training=TRAINING)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    put(tmp_path / "run" / "model", trained(), HEAD)
    return tmp_path / "run" / "model"


def edit_card(folder: Path, **changes: object) -> None:
    path = folder / CARD_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_weights(folder: Path, state: dict[str, Tensor]) -> None:
    data = save(state)
    (folder / WEIGHTS_NAME).write_bytes(data)
    edit_card(folder, weights_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("at", ["model", "run"])
def test_round_trip_is_exact(model: Path, at: str) -> None:
    backbone = trained()
    loaded, card = load_model(model if at == "model" else model.parent)
    saved = backbone.state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == saved[name].dtype, name
        assert torch.equal(tensor, saved[name]), name
    assert not loaded.training
    batch = torch.randn(3, 1, 16, 16)
    assert torch.equal(loaded(batch), backbone.eval()(batch))
    assert card.backbone.model_dump() == CARD
    assert (card.head, card.training) == (HEAD, TRAINING)
    assert card.preprocessing == Preprocessing(mean=127.5, scale=127.5, colour="L")


def test_loading_leaves_the_generator_alone_and_keeps_what_is_frozen(tmp_path: Path) -> None:
    card = {**CARD, "name": "iresnet18", "channels": 3}
    backbone = build_backbone(**card)
    save_model(tmp_path / "m", backbone.state_dict(), backbone=card, head={}, training={})
    before = torch.get_rng_state()
    loaded, _ = load_model(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), before)
    trainable = {name: p.requires_grad for name, p in backbone.named_parameters()}
    assert {name: p.requires_grad for name, p in loaded.named_parameters()} == trainable


def test_half_and_channels_last_states_are_stored_as_plain_fp32(tmp_path: Path) -> None:
    backbone = trained().bfloat16()
    backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    put(tmp_path / "m", backbone)
    loaded, _ = load_model(tmp_path / "m")
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
        assert torch.equal(tensor, backbone.state_dict()[name].to(tensor.dtype))


def test_the_files_are_the_documented_ones(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == [CARD_NAME, WEIGHTS_NAME]
    card = json.loads((model / CARD_NAME).read_text())
    assert (card["format"], card["version"]) == ("sf2-model", 1)
    assert card["weights_sha256"] == hashlib.sha256((model / WEIGHTS_NAME).read_bytes()).hexdigest()
    assert load_file(model / WEIGHTS_NAME).keys() == trained().state_dict().keys()


def test_saving_again_replaces_and_leaves_nothing_beside(model: Path) -> None:
    other = trained()
    with torch.no_grad():
        next(other.parameters()).zero_()
    (model.parent / ".model-partial").mkdir()
    put(model, other, {"loss": "second"})
    loaded, card = load_model(model)
    assert card.head == {"loss": "second"}
    assert not next(loaded.parameters()).any()
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_an_interrupted_save_leaves_the_earlier_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fails_on_the_new_one(self: Path, target: Path) -> Path:
        if self.name.endswith("-partial"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_on_the_new_one)
    with pytest.raises(Sf2Error, match=r"cannot be written \(No space left on device\)"):
        put(model, trained(), {"loss": "second"})
    assert load_model(model)[1].head == HEAD


def test_a_folder_with_other_files_is_not_replaced(model: Path) -> None:
    (model / "notes.txt").write_text("mine")
    with pytest.raises(Sf2Error, match=r"also holds notes\.txt"):
        put(model, trained())
    assert (model / "notes.txt").read_text() == "mine"


def test_a_state_of_another_network_is_not_saved(tmp_path: Path) -> None:
    state = trained().state_dict()
    removed = next(iter(state))
    del state[removed]
    with pytest.raises(Sf2Error, match=f"cannot be saved: {removed} is missing"):
        save_model(tmp_path / "m", state, backbone=CARD, head={}, training={})
    assert not (tmp_path / "m").exists()


def test_missing_folder_and_files(tmp_path: Path, model: Path) -> None:
    with pytest.raises(Sf2Error, match="nowhere: no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(Sf2Error, match=r"neither model\.json nor model/model\.json"):
        load_model(tmp_path)
    (model / WEIGHTS_NAME).unlink()
    with pytest.raises(Sf2Error, match=r"model\.safetensors: cannot be read"):
        load_model(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "card: "),
        (b'{"format": "sf2-checkpoint"}', "format: "),
    ],
)
def test_a_card_that_is_not_one(model: Path, text: bytes, message: str) -> None:
    (model / CARD_NAME).write_bytes(text)
    with pytest.raises(Sf2Error, match=rf"model\.json: {message}"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: "),
        ({"extra": 1}, "extra: "),
        ({"weights_sha256": "short"}, "weights_sha256: "),
        ({"backbone": {**CARD, "channels": 3}}, "colour does not fit"),
        ({"backbone": {**CARD, "name": "resnet"}}, "backbone name: found 'resnet'"),
        ({"preprocessing": {"mean": 0, "scale": 0, "colour": "L"}}, "preprocessing.scale: "),
    ],
)
def test_a_card_with_wrong_fields(model: Path, change: dict[str, object], message: str) -> None:
    edit_card(model, **change)
    with pytest.raises(Sf2Error, match=rf"model\.json: .*{message}"):
        load_model(model)


def test_one_flipped_bit_is_noticed(model: Path) -> None:
    data = bytearray((model / WEIGHTS_NAME).read_bytes())
    data[-1] ^= 1
    (model / WEIGHTS_NAME).write_bytes(data)
    with pytest.raises(Sf2Error, match=r"model\.safetensors: damaged: its SHA-256 is .*\n.*Copy"):
        load_model(model)


def test_a_file_that_is_not_safetensors(model: Path) -> None:
    (model / WEIGHTS_NAME).write_bytes(b"junk")
    edit_card(model, weights_sha256=hashlib.sha256(b"junk").hexdigest())
    with pytest.raises(Sf2Error, match=r"model\.safetensors: not a safetensors file"):
        load_model(model)


def test_tensors_that_do_not_fit_are_named(model: Path) -> None:
    state = trained().state_dict()
    missing = dict(state)
    del missing["conv_sep.layers.0.weight"]
    for wrong, message in [
        (missing, r"conv_sep\.layers\.0\.weight is missing"),
        ({**state, "head.weight": torch.ones(1)}, r"head\.weight is unexpected"),
        (
            {**state, "features.layers.3.bias": torch.ones(9)},
            r"features\.layers\.3\.bias is float32 \[9\], expected float32 \[8\]",
        ),
        (
            {**state, "features.layers.3.bias": torch.ones(8, dtype=torch.float16)},
            r"features\.layers\.3\.bias is float16 \[8\], expected float32 \[8\]",
        ),
        ({"a": torch.ones(1)}, r"and \d+ more"),
    ]:
        replace_weights(model, wrong)
        with pytest.raises(Sf2Error, match=rf"not the weights of mobilefacenet: .*{message}"):
            load_model(model)


def test_cards_are_frozen(model: Path) -> None:
    card = ModelCard.model_validate_json((model / CARD_NAME).read_text())
    with pytest.raises(ValidationError, match="frozen"):
        card.version = 1  # type: ignore[misc]


@pytest.mark.parametrize(("channels", "colour"), [(1, "L"), (3, "RGB")])
def test_normalise_maps_bytes_to_minus_one_to_one(channels: int, colour: str) -> None:
    preprocessing = Preprocessing.for_channels(channels)
    assert preprocessing.colour == colour
    images = torch.zeros(2, channels, 4, 4, dtype=torch.uint8)
    images[1] = 255
    images = images.contiguous(memory_format=torch.channels_last)
    floats = normalise(images, preprocessing)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert (floats[0] == -1).all()
    assert (floats[1] == 1).all()
    assert not images[0].any()


def test_normalise_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 images, found torch\.float32"):
        normalise(torch.zeros(1, 1, 2, 2), Preprocessing(colour="L"))
