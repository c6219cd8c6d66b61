"""What may be wrong without any number showing it is said in words; what is right stays silent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import Preprocessing, save_model
from sf2cli.data.images import encode_png
from sf2cli.data.pack import PackOptions, pack
from sf2cli.evaluation.all_pairs import open_all_pairs
from sf2cli.evaluation.embed import NetworkEmbedder, torch_network
from sf2cli.evaluation.embedder import Embedder, EmbedderCard
from sf2cli.evaluation.ijb import open_ijb
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.open_set import open_identification
from sf2cli.evaluation.self_check import self_check
from sf2cli.training.checkpoint_folder import checkpoint_path
from tests.evaluation.protocols import write_ijb
from tests.evaluation.small import write_photos, write_set

EDGE = 16


def trained(folder: Path, channels: int = 1, size: int = EDGE, **training: object) -> Embedder:
    card = {
        "name": "sfnet4_slim_bn",
        "embedding_size": 8,
        "image_size": size,
        "channels": channels,
    }
    identities = training.pop("identities", ())
    state = build_backbone(**card).state_dict()  # type: ignore[arg-type]
    save_model(folder, state, backbone=card, head={}, training=training, identities=identities)  # type: ignore[arg-type]
    return open_embedder(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", identities=4, images=3)


def test_what_fits_is_silent(tmp_path: Path, photos: Path) -> None:
    embedder = trained(tmp_path / "model", identities=["someone", "else"])
    assert self_check(embedder, [open_all_pairs(write_set(tmp_path / "set", photos))]) == []


def test_another_size_and_other_colours(tmp_path: Path, photos: Path) -> None:
    grey = open_all_pairs(write_set(tmp_path / "set", photos))
    [size, colour] = self_check(trained(tmp_path / "big", channels=3, size=32), [grey])
    assert size.startswith("set: images of 16 x 16 are resized to the model's 32 x 32")
    assert colour == "set: the images are grey; the model takes colours."
    coloured = write_colours(tmp_path / "colours", "RGB")
    [told] = self_check(trained(tmp_path / "grey"), [coloured])
    assert told == "colours-set: the images have colours; the model sees them in grey."


def test_people_and_images_of_the_training_set(tmp_path: Path, photos: Path) -> None:
    held_out = write_set(tmp_path / "set", photos)
    (photos / "id0").rename(photos / "new")
    seen = write_set(tmp_path / "seen", photos)
    embedder = trained(
        tmp_path / "model",
        identities=["id1", "id2", "id3", "id9"],
        recipe={"data": {"shards": str(seen)}},
        manifest_sha256=hashlib.sha256((seen / "manifest.json").read_bytes()).hexdigest(),
    )
    [people, images] = self_check(embedder, [open_all_pairs(held_out)])
    assert "3 of its 4 identities have the name of one the model was trained on" in people
    assert "(id1; id2; id3)" in people
    assert "12 of 12 images looked at are in the training set" in images
    protocols = [open_all_pairs(held_out), open_identification(held_out, 0, "sf2")]
    assert self_check(embedder, protocols) == [people, images]
    assert self_check(embedder, protocols[1:]) == [people, images]
    (seen / "manifest.json").write_text("{}")
    assert len(self_check(embedder, [open_all_pairs(held_out)])) == 1


def test_another_alignment(tmp_path: Path, photos: Path) -> None:
    aligned = {"template": "112 x 112, five points", "landmarks": "mtcnn"}
    embedder = trained(tmp_path / "model", alignment=aligned)
    [told] = self_check(embedder, [open_all_pairs(write_set(tmp_path / "set", photos))])
    assert told == (
        "set: its faces are aligned as in the source, the model's training set was aligned to"
        " 112 x 112, five points."
    )


def test_rows_that_name_no_images_are_told(tmp_path: Path, photos: Path) -> None:
    packed = open_all_pairs(write_set(tmp_path / "set", photos))
    rows = np.random.default_rng(0).normal(size=(len(packed.faces), 3))
    keys = [packed.faces.source(i) for i in range(len(rows))]
    np.save(tmp_path / "plain.npy", rows)
    np.savez(tmp_path / "named.npz", embeddings=rows, keys=np.array(keys))
    [told] = self_check(open_embedder(tmp_path / "plain.npy"), [packed])
    assert "does not name its rows' images: row 1 is taken for the first image of each set" in told
    assert self_check(open_embedder(tmp_path / "named.npz"), [packed]) == []


def test_crops_are_aligned_whatever_they_come_from(tmp_path: Path) -> None:
    embedder = trained(tmp_path / "model", alignment="as in the source")
    [told] = self_check(embedder, [open_ijb(write_ijb(tmp_path / "IJBC"), "sf2")])
    assert told.startswith("IJB-C: its faces are aligned to 112 x 112, five points, the model's")


def test_a_run_that_has_gone_on(tmp_path: Path) -> None:
    trained(tmp_path / "run" / "model", steps=200)
    for step, told in ((200, 0), (300, 1)):
        checkpoint_path(tmp_path / "run" / "checkpoints", step).mkdir(parents=True)
        assert len(self_check(open_embedder(tmp_path / "run"), [])) == told


class Red(nn.Module):
    """Sees the first colour alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images[:, 0].flatten(1)


def write_colours(folder: Path, order: str):  # type: ignore[no-untyped-def]
    """A packed set whose identities differ in their red alone; stored as `order`."""
    for k in range(6):
        pattern = np.random.default_rng(k).integers(0, 256, (EDGE, EDGE))
        place = folder / f"id{k}"
        place.mkdir(parents=True)
        for i in range(5):
            noise = np.random.default_rng([k, i])
            pixels = noise.integers(0, 256, (EDGE, EDGE, 3)).astype(np.uint8)
            pixels[:, :, 0] = (pattern + noise.integers(-40, 40, (EDGE, EDGE))).clip(0, 255)
            stored = pixels if order == "RGB" else pixels[:, :, ::-1].copy()
            (place / f"{i}.png").write_bytes(encode_png(stored))
    pack(str(folder), folder.with_name(f"{folder.name}-set"), PackOptions())
    return open_all_pairs(folder.with_name(f"{folder.name}-set"))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_exchanged_colours_are_noticed(tmp_path: Path, order: str) -> None:
    card = EmbedderCard(
        place=tmp_path,
        kind="test",
        network="red",
        embedding_size=EDGE * EDGE,
        image_size=EDGE,
        preprocessing=Preprocessing(colour="RGB"),
        mirrored=False,
        sha256="0" * 64,
    )
    embedder = NetworkEmbedder(card, torch_network(Red(), card), "cpu")
    found = self_check(embedder, [write_colours(tmp_path / "photos", order)])
    if order == "RGB":
        assert found == []
    else:
        [told] = found
        assert "with red and blue exchanged AUC rises from" in told
        assert told.endswith("try --colour BGR.")
