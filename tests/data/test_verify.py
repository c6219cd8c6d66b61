import hashlib
import json

import numpy as np
import pytest

from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.verify import verify_set
from sf2cli.errors import Sf2Error
from tests.pictures import encode, make_photos, noise


@pytest.fixture
def folder(tmp_path):
    """A set of three shards."""
    photos = make_photos(tmp_path / "photos", {"anna": 4, "bo": 3, "carl": 5})
    (photos / "bo" / "last.png").write_bytes(encode(noise(16, 16, seed=99), "PNG"))
    pack(str(photos), tmp_path / "set", PackOptions(shard_bytes=16_000))
    assert len(list((tmp_path / "set").glob("*.tar"))) == 3
    return tmp_path / "set"


def edit(folder, number, change):
    """Change the bytes of a shard, and the manifest so that its hash still fits."""
    path = folder / f"set-{number:06d}.tar"
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    forge(folder, lambda tree: tree["shards"][number].update(sha256=sha(path)))


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def forge(folder, change):
    tree = json.loads((folder / "manifest.json").read_text())
    change(tree)
    (folder / "manifest.json").write_text(json.dumps(tree))


def forge_index(folder, change):
    index = np.load(folder / "index.npy")
    change(index)
    np.save(folder / "index.npy", index)
    forge(folder, lambda tree: tree.update(index_sha256=sha(folder / "index.npy")))


def put(place, data):
    def change(content):
        content[place : place + len(data) or None] = data

    return change


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sound_set(folder, workers):
    assert verify_set(folder, workers).samples == 13


@pytest.mark.parametrize("place", [600, 1200, 2100, -700])
def test_any_byte(folder, place):
    path = folder / "set-000001.tar"
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(Sf2Error, match=r"set-000001\.tar: its sha256 is"):
        verify_set(folder, 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put(3, b"9"), "sample 000000000: its key or label is another one"),
        (put(512, b"7"), "sample 000000000: its key or label is another one"),
        (put(1024 + 11, b"png"), "sample 000000000: the member of its image is not 000000000.jpg"),
        (put(1536 + 30, bytes(200)), "sample 000000000: "),
        (put(1536, b"GIF89a"), "sample 000000000: not a JPEG, PNG"),
        (put(-2, b"xy"), "its end is not that of a tar"),
    ],
)
def test_what_a_fitting_hash_would_hide(folder, change, named):
    edit(folder, 0, change)
    with pytest.raises(Sf2Error, match=rf"set-000000\.tar: {named}"):
        verify_set(folder, 1)


def test_an_index_that_leads_elsewhere(folder):
    forge_index(folder, lambda index: index.__setitem__((2, 1), index[2, 1] + 512))
    with pytest.raises(Sf2Error, match="sample 000000002: the index leads elsewhere"):
        verify_set(folder, 1)
    forge_index(folder, lambda index: index.__setitem__((2, 2), 1 << 60))
    with pytest.raises(Sf2Error, match="sample 000000002: the index leads elsewhere"):
        verify_set(folder, 1)


def test_labels_that_do_not_add_up(folder):
    forge_index(folder, lambda index: index.__setitem__((3, 3), 1))
    with pytest.raises(Sf2Error, match="identity anna has 3 images in the index and 4 in the"):
        verify_set(folder, 1)


def test_images_that_are_not_as_the_manifest_says(folder):
    forge(folder, lambda tree: tree["image"].update(size=[16, 17], colour="L"))
    with pytest.raises(Sf2Error, match="26 things are wrong") as caught:
        verify_set(folder, 1)
    assert "sample 000000000: 16 x 16 pixels, in a set of (16, 17)" in caught.value.message
    assert "sample 000000000: it has colours, in a set of grey images" in caught.value.message
    assert caught.value.message.endswith("and 6 more")


def test_files_for_neighbours(folder):
    (folder / "sizes.json").write_text("{}")
    (folder / "wids.json").unlink()
    with pytest.raises(Sf2Error, match=r"1 things are wrong:\n  sizes\.json does not say"):
        verify_set(folder, 1)


def test_sources_that_do_not_add_up(folder):
    path = folder / "sources.txt"
    path.write_bytes(path.read_bytes() + b"one more\n")
    with pytest.raises(Sf2Error, match=r"sources\.txt has sha256"):
        verify_set(folder, 1)
    forge(folder, lambda tree: tree.update(sources_sha256=sha(path)))
    with pytest.raises(Sf2Error, match=r"sources\.txt has 14 lines for 13 images"):
        verify_set(folder, 1)
