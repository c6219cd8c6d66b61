import hashlib
import json
import pickle

import numpy as np
import pytest

from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from tests.pictures import noise, stored, write_set


def make(folder, seed=0):
    images = [[stored(noise(8, 8, seed=seed + 10 * i + j)) for j in range(2)] for i in range(4)]
    return write_set(folder, images, shard_bytes=4000)


@pytest.fixture
def packed(tmp_path):
    return make(tmp_path / "set")


def test_samples_by_number(packed):
    assert len(packed) == 8
    for i in range(8):
        label, j = divmod(i, 2)
        assert (packed.label(i), packed.key(i)) == (label, f"{i:09d}")
        assert packed.source(i) == f"id{label}/{j}"
        assert (packed.decode(i, 8, 3) == noise(8, 8, seed=10 * label + j)).all()
    assert (packed.labels.dtype, packed.labels.tolist()) == (np.int64, [0, 0, 1, 1, 2, 2, 3, 3])
    assert packed.decode(0, 4, 1).shape == (4, 4, 1)


def test_pickles_as_its_folder(packed):
    data = pickle.dumps(packed)
    again = pickle.loads(data)
    assert [again.read(i) for i in range(8)] == [packed.read(i) for i in range(8)]
    assert again.source(7) == packed.source(7)
    assert packed.read(0) not in data


def test_a_truncated_tar_is_refused(packed):
    tar = packed.folder / packed.manifest.shards[1].file
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(Sf2Error, match=r"set-000001\.tar has \d+ bytes, where .* cut short"):
        PackedSet.open(packed.folder)


@pytest.mark.parametrize("name", ["set-000001.tar", "index.npy", "sources.txt"])
def test_a_missing_part_is_named(packed, name):
    (packed.folder / name).unlink()
    with pytest.raises(Sf2Error, match=rf"set/{name} (is missing|cannot be read)"):
        PackedSet.open(packed.folder)


@pytest.mark.parametrize("name", ["index.npy", "sources.txt"])
def test_a_part_of_another_set_is_refused(packed, tmp_path, name):
    images = [[stored(noise(8, 8))] for _ in range(8)]
    other = write_set(tmp_path / "other", images)
    (packed.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(Sf2Error, match=rf"set/{name} has sha256 .* where the manifest says"):
        PackedSet.open(packed.folder)


def forge(packed, content):
    """Another index, and a manifest that vouches for it."""
    (packed.folder / "index.npy").write_bytes(content)
    path = packed.folder / "manifest.json"
    tree = json.loads(path.read_text())
    tree["index_sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", pickle.dumps([1]), b"\x80\x04."]
)
def test_an_index_that_is_no_array_is_refused(packed, content):
    forge(packed, content)
    with pytest.raises(Sf2Error, match=r"index\.npy: no index"):
        PackedSet.open(packed.folder)


def with_cell(row, column, value):
    return lambda index: index.__setitem__((row, column), value)


@pytest.mark.parametrize(
    "change",
    [with_cell(3, 0, 99), with_cell(3, 0, -1), with_cell(0, 1, -512), with_cell(7, 3, 4)],
)
def test_an_index_that_points_elsewhere_is_refused(packed, tmp_path, change):
    index = np.load(packed.folder / "index.npy")
    change(index)
    np.save(tmp_path / "forged.npy", index)
    forge(packed, (tmp_path / "forged.npy").read_bytes())
    with pytest.raises(Sf2Error, match="does not fit the manifest"):
        PackedSet.open(packed.folder)


@pytest.mark.parametrize("index", [np.zeros((7, 4), np.int64), np.zeros((8, 4), np.int32)])
def test_an_index_of_another_shape_is_refused(packed, tmp_path, index):
    np.save(tmp_path / "forged.npy", index)
    forge(packed, (tmp_path / "forged.npy").read_bytes())
    with pytest.raises(Sf2Error, match="does not fit the manifest"):
        PackedSet.open(packed.folder)


def test_an_image_that_went_bad_after_opening_is_named(packed):
    tar = packed.folder / packed.manifest.shards[0].file
    content = bytearray(tar.read_bytes())
    place = content.index(b"\x89PNG")
    content[place : place + 4] = b"????"
    tar.write_bytes(content)
    with pytest.raises(Sf2Error, match=r"sample 000000000 of set-000000\.tar \(id0/0\): not a"):
        PackedSet.open(packed.folder).decode(0, 8, 3)


def test_a_shard_that_shrinks_or_vanishes_while_it_is_read_is_named(packed):
    shards = [packed.folder / shard.file for shard in packed.manifest.shards]
    shards[0].write_bytes(shards[0].read_bytes()[:1600])
    with pytest.raises(Sf2Error, match=r"sample 000000000 of set-000000\.tar .* of its \d+ bytes"):
        packed.read(0)
    shards[-1].unlink()
    with pytest.raises(Sf2Error, match=r"sample 000000007 .* cannot be read"):
        packed.read(7)
