"""Features computed elsewhere: found by name or taken in order, refused if they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.cache import Cache, embed_once
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.open_embedder import open_embedder

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Named:
    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def decode(self, i: int, image_size: int, channels: int) -> np.ndarray:
        raise AssertionError("no image is needed")

    def source(self, i: int) -> str:
        return self.names[i]


def test_rows_in_the_order_of_the_images(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", ROWS)
    embedder = open_embedder(tmp_path / "f.npy")
    assert np.array_equal(embedder.embed(Named("a", "b", "c", "d"), "test"), ROWS)
    with pytest.raises(Sf2Error, match="4 rows for 3 images"):
        embedder.embed(Named("a", "b", "c"), "test")


@pytest.mark.parametrize("form", ["npz", "npy and keys", "folder"])
def test_rows_by_name(tmp_path: Path, form: str) -> None:
    keys = ["x/1.png", "x/2.png", "y/ä.png", "y/2.png"]
    said = InputOptions()
    path = tmp_path / "f.npz"
    if form == "npz":
        np.savez(path, embeddings=ROWS.astype(np.float64), keys=np.array(keys))
    else:
        path = tmp_path if form == "folder" else tmp_path / "embeddings.npy"
        np.save(tmp_path / "embeddings.npy", ROWS)
        (tmp_path / "keys.txt").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        said = InputOptions(keys=None if form == "folder" else tmp_path / "keys.txt")
    embedder = open_embedder(path, said)
    found = embedder.embed(Named("y/ä.png", "x/1.png"), "test")
    assert found.dtype == np.float32
    assert np.array_equal(found, ROWS[[2, 0]])
    with pytest.raises(Sf2Error, match=r"no row for 2 of 3 images: z\.png; w\.png"):
        embedder.embed(Named("z.png", "x/1.png", "w.png"), "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS[0], r"found float32 \[3\]"),
        (ROWS.astype(np.int64), r"found int64 \[4, 3\]"),
        (ROWS[:0], r"found float32 \[0, 3\]"),
        (np.array([{"a": 1}], dtype=object), "not numpy's format"),
    ],
)
def test_what_is_no_rows(tmp_path: Path, content: np.ndarray, message: str) -> None:
    np.save(tmp_path / "f.npy", content, allow_pickle=True)
    with pytest.raises(Sf2Error, match=message):
        open_embedder(tmp_path / "f.npy")


def test_damaged_rows_and_keys(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[1, 2] = np.nan
    np.save(tmp_path / "f.npy", rows)
    with pytest.raises(Sf2Error, match="1 of 4 embeddings is not finite, the first of b"):
        open_embedder(tmp_path / "f.npy").embed(Named("a", "b", "c", "d"), "test")
    np.save(tmp_path / "f.npy", ROWS * [[1], [1], [0], [0]])
    with pytest.raises(Sf2Error, match="2 of 4 embeddings are all zeros, the first of c"):
        open_embedder(tmp_path / "f.npy").embed(Named("a", "b", "c", "d"), "test")
    for name, keys, message in (
        ("few", ["a"], "1 keys for 4 rows"),
        ("twice", ["a", "b", "a", "c"], "keys that stand twice: a"),
    ):
        np.savez(tmp_path / f"{name}.npz", embeddings=ROWS, keys=np.array(keys))
        with pytest.raises(Sf2Error, match=message):
            open_embedder(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "other.npz", features=ROWS)
    with pytest.raises(Sf2Error, match="its arrays are features"):
        open_embedder(tmp_path / "other.npz")
    for data in (b"", b"junk", (tmp_path / "twice.npz").read_bytes()[:100]):
        for suffix in (".npy", ".npz"):
            (tmp_path / f"bad{suffix}").write_bytes(data)
            with pytest.raises(Sf2Error, match=f"features .*bad{suffix}"):
                open_embedder(tmp_path / f"bad{suffix}")
    with pytest.raises(Sf2Error, match="cannot be read"):
        open_embedder(tmp_path / "none.npy")


def test_the_cache_knows_the_keys_and_their_order(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    np.save(tmp_path / "f.npy", ROWS)
    found = []
    for keys in (names, names[::-1]):
        (tmp_path / "keys.txt").write_text("\n".join(keys))
        embedder = open_embedder(tmp_path / "f.npy", InputOptions(keys=tmp_path / "keys.txt"))
        found.append(embed_once(embedder, Named(*names), "data", "test", Cache(tmp_path / "cache")))
    assert np.array_equal(found[0], ROWS)
    assert np.array_equal(found[1], ROWS[::-1])
