import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sf2cli.data.images import decode_image
from sf2cli.data.layout import Layout
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from tests.data.sources.test_att import SHA256
from tests.pictures import encode, files_below, make_photos, noise

COUNTS = {"anna": 3, "bo": 1, "carl": 4, "dora": 2, "emil": 2}


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", COUNTS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "set"


def spoil(path):
    path.write_bytes(path.read_bytes()[:-50])


def sources(packed):
    return [packed.source(i) for i in range(len(packed))]


def test_every_image_once_under_its_identity(photos, out):
    report = pack(str(photos), out, PackOptions())
    packed = PackedSet.open(out)
    assert packed.manifest.identities == list(COUNTS)
    assert packed.manifest.samples_per_identity == list(COUNTS.values())
    expected = [f"{name}/{j}.jpg" for name, count in COUNTS.items() for j in range(count)]
    assert sources(packed) == expected
    for i, source in enumerate(expected):
        assert packed.read(i) == (photos / source).read_bytes()
        assert packed.manifest.identities[packed.label(i)] == source.partition("/")[0]
    (one,) = report.sets
    assert (one.folder, one.identities, one.images, one.shards) == (str(out), 5, 12, 1)
    assert one.bytes == sum(path.stat().st_size for path in out.glob("*.tar"))


def test_packing_twice_gives_the_same_bytes(photos, tmp_path):
    options = PackOptions(holdout=2, holdout_seed=5, size=8, shard_bytes=6000)
    for place in ("one", "two"):
        pack(str(photos), tmp_path / place / "set", options)
    first = files_below(tmp_path / "one")
    assert len(first) >= 8
    assert files_below(tmp_path / "two") == first


def test_the_manifest_says_how_it_was_made(photos, out):
    pack(str(photos), out, PackOptions(size=8, colour="grey", min_images=2))
    manifest = PackedSet.open(out).manifest
    assert (manifest.image.size, manifest.image.colour) == ((8, 8), "L")
    made_by = manifest.made_by
    assert made_by["source"] == {"kind": "folder", "name": "photos"}
    assert made_by["options"] == {
        "size": 8,
        "colour": "grey",
        "min_images": 2,
        "on_bad": "skip",
        "shard_bytes": 256_000_000,
    }
    assert made_by["dropped"] == [{"identity": "bo", "images": 1}]
    assert "split" not in made_by


def split(photos, out, **options):
    """The identities of OUT-train and OUT-test."""
    pack(str(photos), out, PackOptions(overwrite=True, **options))
    parts = [PackedSet.open(out.with_name(f"set-{part}")) for part in ("train", "test")]
    assert sorted(sources(parts[0]) + sources(parts[1])) == sorted(
        f"{name}/{j}.jpg" for name, count in COUNTS.items() for j in range(count)
    )
    for part, packed in zip(("train", "test"), parts, strict=True):
        assert packed.manifest.made_by["split"] == {
            "part": part,
            "holdout": options["holdout"],
            "seed": options.get("holdout_seed"),
        }
    return tuple(packed.manifest.identities for packed in parts)


def test_a_holdout_takes_the_last_identities(photos, out):
    assert split(photos, out, holdout=2) == (["anna", "bo", "carl"], ["dora", "emil"])
    assert sorted(os.listdir(out.parent)) == ["set-test", "set-train"]


def test_a_seed_draws_the_holdout(photos, out):
    drawn = [split(photos, out, holdout=2, holdout_seed=seed) for seed in range(6)]
    for train, test in drawn:
        assert len(test) == 2
        assert sorted(train + test) == sorted(COUNTS)
    assert len({tuple(test) for _, test in drawn}) > 1
    assert split(photos, out, holdout=2, holdout_seed=0) == drawn[0]


@pytest.mark.parametrize("count", [5, 6])
def test_a_holdout_of_everyone_is_refused(photos, out, count):
    with pytest.raises(Sf2Error, match=rf"--holdout {count}: there are only 5 identities"):
        pack(str(photos), out, PackOptions(holdout=count))
    assert not out.parent.exists()


def test_the_holdout_counts_identities_that_are_kept(photos, out):
    with pytest.raises(Sf2Error, match="--holdout 4: there are only 4 identities"):
        pack(str(photos), out, PackOptions(holdout=4, min_images=2))


def test_a_bad_image_stops_the_packing(photos, out):
    spoil(photos / "carl" / "1.jpg")
    with pytest.raises(Sf2Error, match=r"carl/1\.jpg: corrupt JPEG") as caught:
        pack(str(photos), out, PackOptions(on_bad="fail"))
    assert "--on-bad fail" in str(caught.value.remedy)
    assert not out.parent.exists()


def test_bad_images_are_skipped_and_listed(photos, out):
    spoil(photos / "carl" / "1.jpg")
    (photos / "anna" / "0.jpg").write_bytes(b"")
    (photos / "bo" / "1.jpg").symlink_to(photos / "none.jpg")
    report = pack(str(photos), out, PackOptions(on_bad="skip"))
    assert [one["source"] for one in report.skipped] == ["anna/0.jpg", "bo/1.jpg", "carl/1.jpg"]
    reasons = [one["reason"] for one in report.skipped]
    assert reasons[:2] == ["empty file", "cannot be read (No such file or directory)"]
    packed = PackedSet.open(out)
    assert packed.manifest.made_by["skipped"] == report.skipped
    assert packed.manifest.samples_per_identity == [2, 1, 3, 2, 2]
    assert not {"anna/0.jpg", "bo/1.jpg", "carl/1.jpg"} & set(sources(packed))


def test_min_images_counts_readable_ones(photos, out):
    for name in ("anna/0.jpg", "anna/2.jpg", "emil/1.jpg"):
        spoil(photos / name)
    report = pack(str(photos), out, PackOptions(min_images=2, on_bad="skip"))
    packed = PackedSet.open(out)
    assert packed.manifest.identities == ["carl", "dora"]
    assert packed.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert report.dropped == packed.manifest.made_by["dropped"]
    assert report.dropped == [
        {"identity": "bo", "images": 1},
        {"identity": "anna", "images": 1},
        {"identity": "emil", "images": 1},
    ]


def test_min_images_that_nobody_has(photos, out):
    with pytest.raises(Sf2Error, match="--min-images 9: no identity has as many"):
        pack(str(photos), out, PackOptions(min_images=9))


def test_a_part_that_lost_all_its_images_is_named(photos, out):
    for name in ("emil/0.jpg", "emil/1.jpg"):
        spoil(photos / name)
    with pytest.raises(Sf2Error, match="set-test: no identity is left for it"):
        pack(str(photos), out, PackOptions(holdout=1, on_bad="skip"))
    assert not out.parent.exists()


def test_other_files_are_counted(photos, out):
    (photos / "anna" / "notes.txt").touch()
    (photos / "loose.jpg").touch()
    assert pack(str(photos), out, PackOptions()).ignored_files == 2
    assert PackedSet.open(out).manifest.made_by["ignored_files"] == 2


def test_content_decides_the_format_and_names_may_be_anything(tmp_path, out):
    names = ["J. R. Oppenheimer/a b.v2.jpg", "王 小明/一.jpg", "[/a] 🙂/{1..2}.jpg"]
    for i, name in enumerate(names):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_bytes(encode(noise(8, 8, seed=i), "PNG"))
    pack(str(tmp_path / "photos"), out, PackOptions())
    packed = PackedSet.open(out)
    assert sources(packed) == sorted(names, key=os.fsencode)
    for i, name in enumerate(sources(packed)):
        assert (decode_image(packed.read(i), 3) == noise(8, 8, seed=names.index(name))).all()


def test_one_image_is_a_set(tmp_path, out):
    photos = make_photos(tmp_path / "photos", {"anna": 1})
    pack(str(photos), out, PackOptions())
    assert sources(PackedSet.open(out)) == ["anna/0.jpg"]


def test_att(tmp_path):
    report = pack("att", tmp_path / "att", PackOptions(holdout=10, size=64))
    assert [(one.identities, one.images) for one in report.sets] == [(30, 300), (10, 100)]
    test = PackedSet.open(tmp_path / "att-test")
    assert test.manifest.identities == [f"s{i}" for i in range(31, 41)]
    assert (test.manifest.image.size, test.manifest.image.colour) == ((64, 64), "L")
    assert "AT&T Laboratories Cambridge" in test.manifest.made_by["source"]["credit"]


def test_att_untouched_keeps_every_pixel(tmp_path):
    pack("att", tmp_path / "att", PackOptions())
    packed = PackedSet.open(tmp_path / "att")
    assert len(packed) == 400
    assert packed.manifest.image.size == (112, 92)
    faces = np.stack([decode_image(packed.read(i), 1)[:, :, 0] for i in range(400)])
    assert hashlib.sha256(faces.tobytes()).hexdigest() == SHA256


@pytest.mark.parametrize("name", ["a\\b", "a{1..2}", "a:b", ".hidden", "a\nb", "a\udcff", "..", ""])
def test_a_name_that_readers_cannot_take_is_refused(photos, tmp_path, name):
    with pytest.raises(Sf2Error, match="a set cannot be called"):
        pack(str(photos), tmp_path.joinpath(name) if name else tmp_path / "/", PackOptions())
    assert os.listdir(tmp_path) == ["photos"]


def test_out_and_source_lie_apart(photos, tmp_path):
    before = files_below(tmp_path)
    (tmp_path / "link").symlink_to(photos)
    for place in (
        photos,
        photos / "set",
        photos / "deep" / "set",
        tmp_path,
        tmp_path / "link" / "x",
    ):
        with pytest.raises(Sf2Error, match="one lies within the other"):
            pack(str(photos), place, PackOptions(overwrite=True))
    assert files_below(tmp_path) == before


def test_overwrite(photos, out):
    pack(str(photos), out, PackOptions())
    before = files_below(out)
    with pytest.raises(Sf2Error, match="exists already"):
        pack(str(photos), out, PackOptions(size=8))
    spoil(photos / "emil" / "1.jpg")
    with pytest.raises(Sf2Error, match="corrupt"):
        pack(str(photos), out, PackOptions(size=8, overwrite=True, on_bad="fail"))
    assert files_below(out) == before
    pack(str(photos), out, PackOptions(size=8, overwrite=True, on_bad="skip"))
    assert len(PackedSet.open(out)) == 11


def test_a_folder_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "set", Path("/proc/sf2-set")):
        with pytest.raises(Sf2Error, match=rf"OUT {out}: cannot be written"):
            pack(str(photos), out, PackOptions())


def test_a_full_disk(photos, out, monkeypatch):
    add = Layout.add

    def full(self, label_bytes, image_bytes):
        if self.members_bytes > 4000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, label_bytes, image_bytes)

    monkeypatch.setattr(Layout, "add", full)
    with pytest.raises(Sf2Error, match="the disk is full; nothing was kept"):
        pack(str(photos), out, PackOptions())
    assert not out.parent.exists()


def test_a_really_full_disk(photos, tmp_path):
    """The same on a file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        (disk / "filler").write_bytes(bytes(48_000))
        with pytest.raises(Sf2Error, match="the disk is full; nothing was kept"):
            pack(str(photos), disk / "set", PackOptions())
        assert os.listdir(disk) == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_report_is_json(photos, out):
    spoil(photos / "carl" / "1.jpg")
    report = pack(str(photos), out, PackOptions(on_bad="skip", min_images=2))
    tree = json.loads(json.dumps(report.as_dict()))
    assert set(tree) == {"sets", "skipped", "dropped", "ignored_files"}
    assert tree["sets"][0]["images"] == 10
