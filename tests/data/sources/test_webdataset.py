import os
import re
import tarfile
from contextlib import suppress

import numpy as np
import pytest
import webdataset

from sf2cli.data.images import BadImageError
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.data.sources.shard_samples import split_name
from sf2cli.data.sources.webdataset import WebDatasetSource
from sf2cli.errors import Sf2Error
from tests.data.sources.test_archive import raw_header, write
from tests.pictures import encode, files_below, make_photos, noise, sound


def listed(word, same_names=None):
    found = list(sound(WebDatasetSource(str(word), same_names).identities()))
    identities = {
        one.name: {image.key: image.read() for image in one.images} for one in found if one.name
    }
    return identities, sum(one.ignored for one in found)


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", {"anna": 3, "bo": 1, "carl": 4, "dora": 2})


def contents(packed):
    names = packed.manifest.identities
    return {packed.source(i): (names[packed.label(i)], packed.read(i)) for i in range(len(packed))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.left.JPG", ("a/b", "left.jpg")),
        ("000.jpg", ("000", "jpg")),
        ("x.y/z.cls", ("x.y/z", "cls")),
        ("nodot", None),
        ("x.y/nodot", None),
        ("__index__.json__", None),
        ("a/__meta.x__", None),
        (".hidden", ("", "hidden")),
    ],
)
def test_the_key_ends_at_the_first_dot(name, expected):
    assert split_name(name) == expected


def test_a_packed_set_keeps_names_keys_and_bytes(photos, tmp_path):
    pack(str(photos), tmp_path / "one" / "set", PackOptions(shard_bytes=6000))
    first = PackedSet.open(tmp_path / "one" / "set")
    pack(str(tmp_path / "one" / "set"), tmp_path / "two" / "set", PackOptions())
    second = PackedSet.open(tmp_path / "two" / "set")
    assert len(first.manifest.shards) > len(second.manifest.shards) == 1
    assert contents(first) == contents(second)
    assert first.manifest.identities == second.manifest.identities
    assert second.manifest.made_by["source"] == {
        "kind": "webdataset",
        "sets": ["set"],
        "same_names": None,
    }
    # And back: byte for byte what it was, but for the manifest.
    pack(str(tmp_path / "two" / "set"), tmp_path / "three" / "set", PackOptions(shard_bytes=6000))
    before, after = files_below(tmp_path / "one"), files_below(tmp_path / "three")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"set/manifest.json"}


def test_a_split_set_merges_to_the_whole(photos, tmp_path):
    pack(str(photos), tmp_path / "set", PackOptions(holdout=2, holdout_seed=1))
    pack(str(photos), tmp_path / "whole", PackOptions())
    word = f"{tmp_path}/set-{{train,test}}"
    pack(word, tmp_path / "both", PackOptions())
    both, whole = PackedSet.open(tmp_path / "both"), PackedSet.open(tmp_path / "whole")
    assert contents(both) == contents(whole)
    same, _ = listed(f"{tmp_path}/set-train::{tmp_path}/set-test")
    assert list(same) == both.manifest.identities


def test_single_tars_of_a_packed_set_keep_its_names(photos, tmp_path):
    pack(str(photos), tmp_path / "set", PackOptions(shard_bytes=4000))
    tars = sorted((tmp_path / "set").glob("*.tar"))
    assert len(tars) > 3
    last = f"{len(tars) - 1:06d}"
    identities, _ = listed(f"{tmp_path}/set/set-{{000001..{last}}}.tar")
    assert list(identities) == ["anna", "bo", "carl", "dora"][-len(identities) :]
    all_of_them, _ = listed(f"{tmp_path}/set/set-{{000000..{last}}}.tar")
    assert [len(images) for images in all_of_them.values()] == [3, 1, 4, 2]
    assert next(iter(all_of_them["anna"])) == "anna/000000000.jpg"


@pytest.mark.parametrize("label", ["cls", "json", "txt"])
def test_shards_of_webdatasets_own_writer(tmp_path, label):
    (tmp_path / "shards").mkdir()
    values = {"cls": 7, "json": {"id": 3, "label": 7}, "txt": "7"}
    pictures = [encode(noise(8, 8, seed=i), "JPEG") for i in range(6)]
    pattern = str(tmp_path / "shards" / "x-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for i, picture in enumerate(pictures):
            writer.write({"__key__": f"p/{i:03d}", "jpg": picture, label: values[label]})
        writer.write({"__key__": "none", label: values[label]})
    expected = {"7": {f"7/p/{i:03d}.jpg": picture for i, picture in enumerate(pictures)}}
    for word in ("shards", "shards/x-{000000..000001}.tar"):
        assert listed(tmp_path / word) == (expected, 1)
    assert find_source(str(tmp_path / "shards"), SourceOptions()).description["sets"] == ["x"]


def test_labels_are_in_the_order_of_their_numbers(tmp_path):
    members = {}
    for key, label in enumerate((10, 9, 10, 2)):
        members |= {f"{key}.cls": b"%d\n" % label, f"{key}.PNG": b"%d" % key}
    path = write(tmp_path / "x-0.tar", members)
    identities, _ = listed(path)
    assert list(identities) == ["2", "9", "10"]
    assert identities["10"] == {"10/0.PNG": b"0", "10/2.PNG": b"2"}


def test_a_name_in_several_sets_is_no_accident(tmp_path):
    one = write(
        tmp_path / "one-000.tar", {"a.cls": b"1", "a.jpg": b"1a", "b.cls": b"2", "b.jpg": b"1b"}
    )
    two = write(
        tmp_path / "two-000.tar", {"a.cls": b"2", "a.jpg": b"2a", "c.cls": b"3", "c.jpg": b"2c"}
    )
    with pytest.raises(Sf2Error, match="1 names are in several sets, '2' in one and in two"):
        listed(f"{one}::{two}")
    merged, _ = listed(f"{one}::{two}", "merge")
    assert merged == {
        "1": {"1/a.jpg": b"1a"},
        "2": {"2/b.jpg": b"1b", "2/a.jpg": b"2a"},
        "3": {"3/c.jpg": b"2c"},
    }
    apart, _ = listed(f"{one}::{two}", "apart")
    assert {name: list(images) for name, images in apart.items()} == {
        "one/1": ["one/1/a.jpg"],
        "one/2": ["one/2/b.jpg"],
        "two/2": ["two/2/a.jpg"],
        "two/3": ["two/3/c.jpg"],
    }
    assert apart["two/2"]["two/2/a.jpg"] == b"2a"
    with pytest.raises(Sf2Error, match="--same-names apart: two sets of one, one have one name"):
        listed(f"{one}::{one}", "apart")


def test_tars_of_one_piece_are_one_set(tmp_path):
    for i in range(2):
        write(tmp_path / f"x-{i}.tar", {"a.cls": b"5", "a.jpg": b"%d" % i})
    identities, _ = listed(tmp_path / "x-{0..1}.tar")
    assert list(identities) == ["5"]
    images = [
        image
        for one in WebDatasetSource(f"{tmp_path}/x-{{0,1}}.tar", None).identities()
        for image in one.images
    ]
    assert [image.read() for image in images] == [b"0", b"1"]
    with pytest.raises(Sf2Error, match=r"x-0\.tar is named twice"):
        listed(tmp_path / "x-{0,0}.tar")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([("a.jpg", b"1")], "sample a: it has no label"),
        ([("a.jpg", b"1"), ("b.cls", b"1")], "sample a: it has no label"),
        ([("a.cls", b"x"), ("a.jpg", b"1")], "sample a: .cls holds no label: 'x' is no whole"),
        ([("a.cls", b"-1"), ("a.jpg", b"1")], "'-1' is no whole number"),
        ([("a.cls", b""), ("a.jpg", b"1")], "'' is no whole number"),
        ([("a.cls", b"9" * 30), ("a.jpg", b"1")], "is no whole number"),
        ([("a.cls", bytes(70_000)), ("a.jpg", b"1")], ".cls has 70000 bytes"),
        ([("a.json", b"{"), ("a.jpg", b"1")], ".json holds no label"),
        ([("a.json", b"[" * 60_000), ("a.jpg", b"1")], ".json holds no label"),
        ([("a.json", b'{"id": 1}'), ("a.jpg", b"1")], ".json holds no label: no field of label"),
        ([("a.json", b'{"label": true}'), ("a.jpg", b"1")], "'True' is neither text nor"),
        ([("a.json", b'{"label": [1]}'), ("a.jpg", b"1")], "'[1]' is neither text nor"),
        ([("a.json", b'"a\\nb"'), ("a.jpg", b"1")], "'a\\nb' holds a line break"),
        ([("a.txt", b" \n"), ("a.jpg", b"1")], ".txt holds no label: it is empty"),
        ([("a.txt", b"a\nb"), ("a.jpg", b"1")], "it has several lines"),
        ([("a.txt", b"\xff"), ("a.jpg", b"1")], ".txt holds no label"),
        ([("a.cls", b"1"), ("a.jpg", b"1"), ("a.JPG", b"2")], "extension .jpg is there twice"),
        ([("a.cls", b"1"), ("a.jpg", b"1"), ("a.cls", b"2")], "extension .cls is there twice"),
        ([("a.cls", b"1"), ("a.jpg", b"1"), ("a.png", b"2")], "it has 2 images: .jpg, .png"),
        ([("a.cls", b"1"), ("a.txt", b"1")], "no sample with an image in 1 shards"),
        ([], "no sample with an image in 1 shards"),
    ],
)
def test_samples_that_cannot_be_packed(tmp_path, members, named):
    path = write(tmp_path / "x.tar", members)
    with pytest.raises(Sf2Error, match=re.escape(named)):
        listed(path)


def test_metadata_and_other_fields_are_passed_over(tmp_path):
    members = {
        "__index__.json": b"",
        "__x.json__": b"",
        "README": b"",
        "a.json": b'{"caption": "x"}',
        "a.jpg": b"1",
        "a.txt": b"anna",
        "a.seg.png": b"no image of its own",
        "b.jpg": b"2",
        "b.json": b'{"identity": "bo"}',
    }
    identities, ignored = listed(write(tmp_path / "x.tar", members))
    assert identities == {"anna": {"anna/a.jpg": b"1"}, "bo": {"bo/b.jpg": b"2"}}
    assert ignored == 1


def test_a_link_in_a_shard_is_refused(tmp_path):
    path = write(tmp_path / "x.tar", {"a.cls": b"1", "a.jpg": b"1"})
    path.write_bytes(raw_header("b.jpg", kind=tarfile.SYMTYPE) + path.read_bytes())
    with pytest.raises(Sf2Error, match=r"sample b: b\.jpg is no plain file"):
        listed(path)


def test_a_class_without_a_name_is_refused(photos, tmp_path):
    pack(str(photos), tmp_path / "set", PackOptions())
    write(tmp_path / "set" / "set-000000.tar", {"a.cls": b"4", "a.jpg": b"1"})
    with pytest.raises(Sf2Error, match="sample a: its class 4 has no name in the manifest"):
        listed(tmp_path / "set" / "set-000000.tar")
    with pytest.raises(Sf2Error, match="cut short or"):
        listed(tmp_path / "set")


def test_a_cut_shard_is_named_wherever_it_is_cut(tmp_path):
    members = {}
    for i in range(3):
        members |= {f"{i}.cls": b"1", f"{i}.jpg": bytes([i]) * 700}
    path = write(tmp_path / "x.tar", members)
    whole = path.read_bytes()
    last = 3 * (1024 + 1536)
    for end in range(0, last, 97):
        path.write_bytes(whole[:end])
        with pytest.raises(Sf2Error, match=r"x\.tar: at byte \d+ of the tar"):
            listed(path)


def test_random_damage_raises_nothing_else(tmp_path):
    path = write(tmp_path / "x.tar", {"a.cls": b"1", "a.jpg": b"1", "b.json": b"2", "b.png": b"2"})
    whole = path.read_bytes()[:6000]
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(random.integers(1, 8))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        path.write_bytes(data)
        with suppress(Sf2Error, BadImageError):
            listed(path)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("none.tar", "SOURCE none.tar: no such file or folder"),
        ("x-{0..3}.tar", "SOURCE x-1.tar: no such file or folder"),
        ("x-{0..3.tar", "Unbalanced braces"),
        ("x-0.tar::", "nothing before or after a `::`"),
        ("http://host/x.tar", "SOURCE http://host/x.tar: not on this machine's disks"),
        ("x-0.tar::pipe:cat x.tar", "SOURCE pipe:cat x.tar: not on this machine's disks"),
        ("x-0.tar.gz", "shards are .tar files"),
        ("empty", "neither manifest.json nor .tar files in it"),
        ("y" * 300 + "{}", "no such file or folder"),
    ],
)
def test_shards_that_are_not_there(tmp_path, monkeypatch, word, named):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x-0.tar", {"a.cls": b"1", "a.jpg": b"1"})
    (tmp_path / "x-0.tar.gz").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(Sf2Error, match=re.escape(named)):
        listed(word)


def test_packing_foreign_shards_splits_by_identity_and_gives_the_same_bytes(tmp_path):
    members = {}
    for i in range(8):
        picture = encode(noise(8, 8, seed=i), "PNG")
        members |= {f"{i}.cls": b"%d" % (i % 3), f"{i}.png": picture}
    write(tmp_path / "x-0.tar", members)
    for place in ("one", "two"):
        pack(str(tmp_path / "x-0.tar"), tmp_path / place / "set", PackOptions(holdout=1))
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
    parts = [PackedSet.open(tmp_path / "one" / f"set-{part}") for part in ("train", "test")]
    assert [part.manifest.identities for part in parts] == [["0", "1"], ["2"]]
    assert [contents(part) for part in parts][1] == {
        f"2/{i}.png": ("2", members[f"{i}.png"]) for i in (2, 5)
    }


@pytest.mark.parametrize(
    ("files", "word", "kind"),
    [
        (["set/a/1.jpg"], "set", "folder"),
        (["set/a/1.jpg", "set/x.tar"], "set", "folder"),
        (["set/x.tar"], "set", "webdataset"),
        (["set/manifest.json"], "set", "webdataset"),
        (["set/train.rec"], "set", "recordio"),
        (["set/{a}/1.jpg"], "set/{a}", "folder"),
        (["a::b/1.jpg"], "a::b", "folder"),
        ([], "a::b", "webdataset"),
        ([], "x-{0..1}.tar", "webdataset"),
        ([], "http://host/x.tar", "webdataset"),
        ([], "train.rec", "recordio"),
        ([], "emore/property", "recordio"),
        ([], "train.lst", "list"),
        ([], "train.CSV", "list"),
        ([], "x.tar.gz", "archive"),
        ([], "x.TGZ", "archive"),
        ([], "x.zip", "archive"),
        ([], "x.tar", "archive"),
        ([], "x" * 300, "folder"),
    ],
)
def test_the_kind_is_found_by_looking(tmp_path, monkeypatch, files, word, kind):
    from sf2cli.data.sources import registry

    monkeypatch.chdir(tmp_path)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert registry._kind_of(word) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("0.cls", "0.jpg"), "webdataset"),
        (("a/0.jpg", "a/0.cls"), "webdataset"),
        (("0.jpg", "0.json"), "webdataset"),
        (("anna/0.jpg", "anna/0.json"), "archive"),
        (("anna/0.jpg", "bo/0.jpg"), "archive"),
        (("0.jpg", "1.txt"), "archive"),
    ],
)
def test_a_tar_is_looked_into(tmp_path, names, kind):
    from sf2cli.data.sources import registry

    path = write(tmp_path / "x.tar", {"dir": b"", **dict.fromkeys(names, b"1")})
    assert registry._kind_of(os.fspath(path)) == kind
