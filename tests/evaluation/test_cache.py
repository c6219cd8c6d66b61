"""Kept embeddings: found by all that they depend on, never half written, within a limit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sf2cli.backbones.saved import Preprocessing
from sf2cli.evaluation.cache import Cache, default_cache, embed_once
from sf2cli.evaluation.embedder import EmbedderCard

CARD = EmbedderCard(
    place=Path("model"),
    kind="test",
    network="none",
    embedding_size=2,
    image_size=4,
    preprocessing=Preprocessing(colour="RGB"),
    mirrored=True,
    sha256="0" * 64,
)
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


class Counting:
    """An embedder that counts how often it was asked."""

    device = "cpu"

    def __init__(self, card: EmbedderCard = CARD) -> None:
        self.card, self.asked = card, 0

    def embed(self, faces: object, description: str) -> np.ndarray:
        self.asked += 1
        return ROWS


def ask(embedder: Counting, cache: Cache | None, data: str = "data") -> np.ndarray:
    return embed_once(embedder, range(3), data, "test", cache)  # type: ignore[arg-type]


def test_computed_once(tmp_path: Path) -> None:
    cache, embedder = Cache(tmp_path / "new" / "cache"), Counting()
    for _ in range(3):
        assert np.array_equal(ask(embedder, cache), ROWS)
    assert embedder.asked == 1
    moved = Counting(replace(CARD, place=Path("elsewhere"), head={"r": 1}))
    ask(moved, cache)
    assert moved.asked == 0
    ask(embedder, None)
    assert embedder.asked == 2
    [entry] = cache.folder.iterdir()
    assert np.array_equal(np.load(entry), ROWS)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "1" * 64},
        {"image_size": 5},
        {"mirrored": False},
        {"preprocessing": Preprocessing(colour="BGR")},
        {"preprocessing": Preprocessing(colour="RGB", mean=0)},
        {"preprocessing": Preprocessing(colour="RGB", scale=255)},
    ],
)
def test_whatever_changes_embeddings_changes_the_key(
    tmp_path: Path, change: dict[str, object]
) -> None:
    cache, other = Cache(tmp_path), Counting(replace(CARD, **change))  # type: ignore[arg-type]
    ask(Counting(), cache)
    ask(other, cache)
    assert other.asked == 1
    ask(other, cache, data="other data")
    assert other.asked == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, damage: str) -> None:
    cache, embedder = Cache(tmp_path), Counting()
    ask(embedder, cache)
    [entry] = tmp_path.iterdir()
    data = bytearray(entry.read_bytes())
    if damage == "flipped":
        data[-40] ^= 1
    entry.write_bytes(data[:-1] if damage == "cut" else data if damage == "flipped" else b"")
    assert np.array_equal(ask(embedder, cache), ROWS)
    assert embedder.asked == 2
    ask(embedder, cache)
    assert embedder.asked == 2


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for k, key in enumerate("abc"):
        cache.put(key, ROWS)
        os.utime(tmp_path / f"{key}.npy", (k, k))
    size = (tmp_path / "a.npy").stat().st_size
    assert cache.get("a") is not None
    Cache(tmp_path, limit_bytes=2 * size).put("d", ROWS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "d"]
    Cache(tmp_path, limit_bytes=size - 40).put("e", ROWS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "d"]


def test_a_folder_that_cannot_be_written_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    embedder = Counting()
    assert np.array_equal(ask(embedder, Cache(tmp_path / "file")), ROWS)
    assert "embeddings not kept in" in capsys.readouterr().err


def test_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF2_CACHE", "/a")
    assert default_cache().folder == Path("/a")
    monkeypatch.delenv("SF2_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache().folder == Path("/b/sf2/embeddings")
