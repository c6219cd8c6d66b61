"""`sf2 pack` on sources other than a folder, as its user meets it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from sf2cli.commands import pack as command
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.registry import KINDS
from tests.commands.test_pack import here, refused, sf2
from tests.data.recordio_writer import insightface, write_rec
from tests.data.sources.test_parquet import picture, write_hub
from tests.pictures import encode, make_photos, noise

__all__ = ["here"]

FACES = [[encode(noise(8, 8, seed=9 * i + j), "JPEG") for j in range(2)] for i in range(3)]


def test_a_kind_that_source_is_not(here):
    (here / "photos").mkdir()
    assert "--from att: SOURCE photos is not the word" in refused(
        here, "photos", "x", "--from", "att"
    )
    for kind in ("recordio", "list"):
        assert "SOURCE photos" in refused(here, "photos", "x", "--from", kind)
    assert "not named as an archive" in refused(here, "photos", "x", "--from", "archive")
    assert "neither manifest.json nor .tar" in refused(here, "photos", "x", "--from", "webdataset")
    (here / "file").write_bytes(b"")
    assert "SOURCE file: not a folder" in refused(here, "file", "x", "--from", "folder")


def packed_names(folder):
    return PackedSet.open(folder).manifest.identities


def test_every_kind_can_be_asked_for():
    assert command._KINDS == KINDS
    help_text = sf2("pack", "--help").output
    assert all(f"\n    {kind} " in help_text for kind in KINDS)


def test_a_kind_that_is_none_is_a_usage_error(here):
    shown = sf2("pack", "photos", "faces", "--from", "floppy")
    assert shown.exit_code == 2
    assert "'floppy' is not one of 'folder'" in shown.stderr


@pytest.mark.parametrize("word", ["emore", "emore/train.rec", "emore/property"])
def test_recordio(here, word):
    (here / "emore").mkdir()
    write_rec(here / "emore" / "train.rec", insightface(FACES))
    (here / "emore" / "property").write_text("3,8,8\n")
    assert sf2("pack", word, "faces", "--holdout", 1).exit_code == 0
    assert packed_names(here / "faces-train") == ["0", "1"]
    assert packed_names(here / "faces-test") == ["2"]


def test_recordio_that_cannot_be_packed(here):
    rec = here / "train.rec"
    assert "SOURCE train.rec: cannot be read (No such file" in refused(here, "train.rec", "faces")
    write_rec(rec, insightface([*FACES, [b"no image"]]))
    assert "record 7 at byte" in refused(here, "train.rec", "faces")
    whole = rec.read_bytes()
    rec.write_bytes(whole[:1500])
    assert "train.idx: not the index of its .rec file" in refused(here, "train.rec", "faces")
    rec.with_suffix(".idx").unlink()
    assert "of 1500: the file ends within a record" in refused(here, "train.rec", "faces")
    rec.write_bytes(b"<html>not found</html>")
    assert "at byte 0 of 22: no record starts there" in refused(here, "train.rec", "faces")
    write_rec(rec, [(1, 2.0**24, FACES[0][0])])
    assert "record 1 has the label 16777216" in refused(here, "train.rec", "faces")
    assert "one lies within the other" in refused(here, "train.rec", "train.rec", "--overwrite")


def test_list(here):
    make_photos(here / "photos", {"anna": 2, "bo": 1})
    (here / "all.csv").write_text("path,label\r\nanna/0.jpg,9\r\nanna/1.jpg,9\r\nbo/0.jpg,10\r\n")
    shown = sf2("pack", "all.csv", "faces", "--images", "photos", "--holdout", 1)
    assert shown.exit_code == 0
    assert (packed_names(here / "faces-train"), packed_names(here / "faces-test")) == (
        ["9"],
        ["10"],
    )
    (here / "all.csv").rename(here / "all.list")
    assert sf2("pack", "all.list", "x", "--images", "photos", "--from", "list").exit_code == 0


def test_a_list_that_cannot_be_packed(here):
    make_photos(here / "photos", {"anna": 2})
    assert "SOURCE all.csv: cannot be read (No such file" in refused(here, "all.csv", "faces")
    (here / "all.csv").write_text("anna/0.jpg,1\nanna/9.jpg,1\n")
    assert "all.csv line 1: anna/0.jpg: cannot be read" in refused(here, "all.csv", "faces")
    message = refused(here, "all.csv", "faces", "--images", "photos")
    assert "all.csv line 2: photos/anna/9.jpg: cannot be read (No such file" in message
    message = refused(here, "all.csv", "faces", "--on-bad", "skip")
    assert "no identity is left for it" in message
    assert "images, none, is none" in refused(here, "all.csv", "faces", "--images", "none")
    (here / "all.csv").write_text("anna/0.jpg,1\n../secret.jpg,1\n")
    assert "the path '../secret.jpg' leads out of photos" in refused(
        here, "all.csv", "faces", "--images", "photos"
    )
    assert "--images photos: SOURCE photos is no list but of the kind folder" in refused(
        here, "photos", "faces", "--images", "photos"
    )


@pytest.mark.parametrize(("kind", "ending"), [("zip", ".zip"), ("gztar", ".tar.gz")])
def test_archive(here, kind, ending):
    make_photos(here / "photos", {"anna": 2, "bo": 1})
    shutil.make_archive("all", kind, ".", "photos")
    assert sf2("pack", f"all{ending}", "faces", "--holdout", 1).exit_code == 0
    names = packed_names(here / "faces-train") + packed_names(here / "faces-test")
    assert sorted(names) == ["anna", "bo"]


def test_an_archive_that_cannot_be_packed(here):
    make_photos(here / "photos", {"anna": 2, "bo": 1})
    assert "SOURCE all.tar: cannot be read (No such file" in refused(here, "all.tar", "faces")
    (here / "photos" / "bo" / "bad.jpg").write_bytes(b"no image")
    for kind, ending in (("tar", ".tar"), ("gztar", ".tar.gz"), ("zip", ".zip")):
        path = here / shutil.make_archive("all", kind, ".", "photos")
        message = refused(here, f"all{ending}", "faces")
        assert f"all{ending} member photos/bo/bad.jpg: not a JPEG, PNG" in message
        path.write_bytes(path.read_bytes()[:1000])
        assert f"SOURCE all{ending}: " in refused(here, f"all{ending}", "faces")
        path.unlink()
    (here / "photos" / "bo" / "link.jpg").symlink_to("/etc/passwd")
    shutil.make_archive("all", "tar", ".", "photos")
    assert "photos/bo/link.jpg is a link" in refused(here, "all.tar", "faces")


def test_fonts(here):
    folder = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
    (here / "fonts").mkdir()
    for style in ("Sans", "Serif"):
        shutil.copy(folder / f"DejaVu{style}.ttf", here / "fonts")
    few = ("--set", "seen_images=2", "--set", "characters=U+0041-0044,U+0416", "--set", "seed=3")
    asked = ("pack", "fonts", "letters", "--from", "fonts", "--set", "faces=fonts", *few)
    assert sf2(*asked).exit_code == 0
    packed = PackedSet.open(here / "letters")
    assert packed.manifest.identities == ["U+0041", "U+0042", "U+0043", "U+0044", "U+0416"]
    assert (packed.manifest.image.size, packed.manifest.image.colour) == ((32, 32), "L")
    made_by = packed.manifest.made_by["source"]
    assert [face["file"] for face in made_by["faces"]] == ["DejaVuSans.ttf", "DejaVuSerif.ttf"]
    assert made_by["settings"]["seen_images"] == 2

    (here / "mine.yaml").write_text("faces: fonts\nseen_images: 2\nseed: 3\n")
    again = ("pack", "mine.yaml", "again", "--set", "characters=U+0041-0044,U+0416")
    assert sf2(*again, "--holdout", 2).exit_code == 0
    assert packed_names(here / "again-test") == ["U+0044", "U+0416"]
    assert PackedSet.open(here / "again-train").read(0) == packed.read(0)
    assert "unknown field sise" in refused(here, "fonts", "x", "--set", "sise=8")
    assert "--set seed=1: SOURCE letters is not fonts" in refused(
        here, "letters", "x", "--set", "seed=1"
    )


def test_parquet(here):
    write_hub(here / "faces.parquet", [0, 1, 1, 2], ["anna", "bo", "carl"])
    assert sf2("pack", "faces.parquet", "faces").exit_code == 0
    packed = PackedSet.open(here / "faces")
    assert packed.manifest.identities == ["anna", "bo", "carl"]
    assert [packed.source(i) for i in range(4)] == [
        "anna/0.png",
        "bo/1.png",
        "bo/2.png",
        "carl/3.png",
    ]
    assert packed.read(2) == picture(2)
    assert "none.parquet: no Parquet file" in refused(here, "none.parquet", "x")


def test_webdataset(here):
    make_photos(here / "photos", {"anna": 2, "bo": 1, "carl": 1})
    assert sf2("pack", "photos", "faces", "--holdout", 1).exit_code == 0
    assert sf2("pack", "faces-train::faces-test", "both").exit_code == 0
    assert packed_names(here / "both") == ["anna", "bo", "carl"]
    assert sf2("pack", "faces-{train,test}", "more", "--holdout", 2).exit_code == 0
    assert packed_names(here / "more-test") == ["bo", "carl"]
    assert "3 names are in several sets, 'anna' in both and in" in refused(
        here, "both::more-train::more-test", "x"
    )
    shown = sf2("pack", "both::more-train", "x", "--same-names", "apart")
    assert shown.exit_code == 0
    assert packed_names(here / "x") == ["both/anna", "both/bo", "both/carl", "more-train/anna"]
    shown = sf2("pack", "both::more-train", "x", "--same-names", "merge", "--overwrite")
    assert shown.exit_code == 0
    assert PackedSet.open(here / "x").manifest.samples_per_identity == [4, 1, 1]


def test_shards_that_cannot_be_packed(here):
    make_photos(here / "photos", {"anna": 2, "bo": 1})
    assert sf2("pack", "photos", "faces").exit_code == 0
    tar = here / "faces" / "faces-000000.tar"
    assert "one lies within the other" in refused(here, "faces", "faces", "--overwrite")
    assert "one lies within the other" in refused(here, tar, "faces", "--overwrite")
    assert "--same-names merge: SOURCE photos is not several sets" in refused(
        here, "photos", "x", "--same-names", "merge"
    )
    assert "SOURCE x-0.tar: no such file" in refused(here, "x-{0..1}.tar", "x")
    tar.write_bytes(tar.read_bytes()[:3000])
    assert "faces-000000.tar has 3000 bytes" in refused(here, "faces", "x")
    assert "faces-000000.tar: at byte" in refused(here, tar, "x")
    (here / "faces" / "manifest.json").write_text("{}")
    assert "faces/manifest.json: " in refused(here, "faces", "x")
