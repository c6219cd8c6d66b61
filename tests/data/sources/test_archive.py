import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from sf2cli.data.images import BadImageError
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources import containers
from sf2cli.data.sources.archive import ArchiveSource
from sf2cli.errors import Sf2Error
from tests.pictures import files_below, make_photos, sound

KINDS = ("tar", "tar.gz", "tgz", "zip")


def write(path, members):
    """An archive of {name: bytes} in that order, or of TarInfo or ZipInfo in place of the name."""
    members = members.items() if isinstance(members, dict) else members
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def listed(path):
    found = list(sound(ArchiveSource(path).identities()))
    identities = {
        one.name: {image.key: image.read() for image in one.images} for one in found if one.name
    }
    return identities, sum(one.ignored for one in found)


def raw_header(name, size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_are_identities(tmp_path, kind):
    long = "x" * 150 + "/" + "王" * 80 + ".png"
    path = write(
        tmp_path / f"a.{kind}",
        {
            "./anna/2.JPG": b"a2",
            "anna/10.jpg": b"a10",
            "anna/notes.txt": b"",
            "anna/.hidden.jpg": b"",
            ".cache/x/1.jpg": b"",
            "__MACOSX/anna/._2.jpg": b"",
            "2019/bo b/1.png": b"b1",
            "loose.jpg": b"",
            long: b"long",
        },
    )
    identities, ignored = listed(path)
    assert identities == {
        "anna": {"anna/2.JPG": b"a2", "anna/10.jpg": b"a10"},
        "2019/bo b": {"2019/bo b/1.png": b"b1"},
        "x" * 150: {long: b"long"},
    }
    assert ignored == 4
    if kind in ("tar", "zip"):
        assert list(identities) == ["2019/bo b", "anna", "x" * 150]
        assert list(identities["anna"]) == ["anna/10.jpg", "anna/2.JPG"]
    else:
        assert list(identities) == ["anna", "2019/bo b", "x" * 150]


@pytest.mark.parametrize("inside", ["", "photos/", "./", "./photos/"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_packs_as_its_folder_does(tmp_path, kind, inside):
    """The same names, order and bytes: only what the manifest says of the source differs."""
    photos = make_photos(tmp_path / "photos", {"Zoë": 2, "a": 2, "a/b": 1, "a!": 1, "b": 1})
    names = [
        os.path.relpath(path, photos)
        for path in sorted(photos.rglob("*"), key=lambda path: os.fsencode(path).split(b"/"))
    ]
    if kind in ("tar", "zip"):
        np.random.default_rng(0).shuffle(names)
    else:
        # As the folder is walked: the images of a folder, then the folders in it.
        names.sort(key=lambda name: (os.fsencode(os.path.dirname(name)).split(b"/"), name))
    files = {
        f"{inside}{name}": (photos / name).read_bytes()
        for name in names
        if (photos / name).is_file()
    }
    path = write(tmp_path / f"all.{kind}", files)
    options = PackOptions(holdout=2, shard_bytes=6000)
    for place in ("one", "two"):
        pack(str(path), tmp_path / place / "set", options)
    pack(str(photos), tmp_path / "three" / "set", options)
    one, two, three = (files_below(tmp_path / place) for place in ("one", "two", "three"))
    assert one == two
    assert one.keys() == three.keys()
    differing = {name for name in one if one[name] != three[name]}
    assert differing == {"set-train/manifest.json", "set-test/manifest.json"}
    assert PackedSet.open(tmp_path / "one" / "set-test").manifest.identities == ["a!", "b"]


def test_one_folder_of_images_is_an_identity(tmp_path):
    assert list(listed(write(tmp_path / "a.zip", {"anna/1.jpg": b"1"}))[0]) == ["anna"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({}, "no image in it"),
        ({"anna/1.txt": b""}, "no image in it (sought: .jpg"),
        ({"1.jpg": b"", "2.jpg": b""}, "2 images, but none in a folder"),
        ({"../anna/1.jpg": b""}, "the name '../anna/1.jpg' leads out of the archive"),
        ({"anna/../../1.jpg": b""}, "the name 'anna/../../1.jpg' leads out of"),
        ({"/etc/1.jpg": b""}, "the name '/etc/1.jpg' leads out of"),
        ({"anna/1\n.jpg": b""}, "'anna/1\\n.jpg' holds a line break"),
        ([("anna/1.jpg", b"1"), ("anna/2.jpg", b""), ("anna/1.jpg", b"2")], "anna/1.jpg is in it"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_content_that_cannot_be_packed(tmp_path, kind, members, named):
    with pytest.raises(Sf2Error, match=re.escape(named)):
        listed(write(tmp_path / f"a.{kind}", members))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "neither file nor folder"),
        (tarfile.CHRTYPE, "neither file nor folder"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, what):
    path = write(tmp_path / "a.tar", {"anna/1.jpg": b"1"})
    path.write_bytes(raw_header("anna/2.jpg", kind=kind) + path.read_bytes())
    with pytest.raises(Sf2Error, match=rf"anna/2\.jpg is {what}"):
        listed(path)


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("anna/2.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(Sf2Error, match=r"anna/2\.jpg is a link"):
        listed(write(tmp_path / "a.zip", [("anna/1.jpg", b"1"), (link, b"/etc/passwd")]))


def test_a_member_without_a_name_is_refused(tmp_path):
    path = write(tmp_path / "a.zip", {"anna/1.jpg": b"1", "bnna/2.jpg": b"2"})
    # zipfile takes a name to end at its first zero.
    path.write_bytes(path.read_bytes().replace(b"bnna", b"\0nna"))
    with pytest.raises(Sf2Error, match="the name '' leads out of the archive"):
        listed(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_archive_is_named_wherever_it_is_cut(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", {f"anna/{i}.jpg": bytes([i]) * 700 for i in range(4)})
    whole = path.read_bytes()
    # What follows the end mark of a tar is padding.
    last = 4 * (512 + 1024) + 512 if kind == "tar" else len(whole)
    for end in [*range(0, last, 37), last - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(Sf2Error, match=rf"a\.{kind}: ") as caught:
            listed(path)
        assert "copy" in str(caught.value.remedy)
    path.write_bytes(whole[:last])
    assert len(listed(path)[0]["anna"]) == 4


@pytest.mark.parametrize(
    "content",
    [b"what is this", b"x" * 2000, raw_header("a/1.jpg", 10**9), raw_header("a/1.jpg")[:-200]],
)
@pytest.mark.parametrize("kind", KINDS)
def test_something_else(tmp_path, kind, content):
    path = tmp_path / f"a.{kind}"
    for data in (content, gzip.compress(content)):
        path.write_bytes(data)
        with pytest.raises(Sf2Error, match=rf"a\.{kind}"):
            listed(path)


def test_damage_in_the_middle_is_no_end(tmp_path):
    path = write(tmp_path / "a.tar", {f"anna/{i}.jpg": b"1" for i in range(4)})
    data = bytearray(path.read_bytes())
    data[2048:2058] = b"?" * 10
    path.write_bytes(data)
    with pytest.raises(Sf2Error, match="at byte 2048 of the tar: no member starts there"):
        listed(path)


def test_a_header_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "a.tar.gz"
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        with gzip.open(path, "wb") as stream:
            stream.write(raw_header("x", 2**30, kind))
            stream.write(bytes(2**20))
        with pytest.raises(Sf2Error, match="a header of 1073741824 bytes"):
            listed(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_too_long_for_an_image_is_a_bad_one(tmp_path, kind, monkeypatch):
    path = write(tmp_path / f"a.{kind}", {"anna/1.jpg": bytes(5000), "anna/2.jpg": b"2"})
    monkeypatch.setattr("sf2cli.data.sources.source.MAX_IMAGE_BYTES", 3000)
    images = [image for one in ArchiveSource(path).identities() for image in one.images]
    with pytest.raises(BadImageError, match="over the limit of 3000 bytes"):
        images[0].read()
    assert images[1].read() == b"2"


def test_members_of_a_zip_that_cannot_be_unpacked_are_bad_images(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anna/1.jpg", b"first")
        archive.writestr("anna/2.jpg", b"second" * 99, zipfile.ZIP_LZMA)
    data = path.read_bytes().replace(b"first", b"forst")
    path.write_bytes(data)
    images = [image for one in ArchiveSource(path).identities() for image in one.images]
    with pytest.raises(BadImageError, match="Bad CRC-32"):
        images[0].read()
    with pytest.raises(BadImageError, match="zip's method 14, not deflate"):
        images[1].read()


def test_a_zip_that_lies_of_a_size_unpacks_no_more(tmp_path):
    path = write(tmp_path / "a.zip", {"anna/1.jpg": bytes(1_000_000)})
    size = (1_000_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (100).to_bytes(4, "little")))
    (image,) = (image for one in ArchiveSource(path).identities() for image in one.images)
    with pytest.raises(BadImageError, match="cannot be unpacked"):
        image.read()


def test_gzip_with_scattered_identities(tmp_path, monkeypatch):
    members = [(f"{name}/{i}.jpg", f"{name}{i}".encode()) for i in range(9) for name in "abc"]
    path = write(tmp_path / "a.tgz", dict(members))
    identities, _ = listed(path)
    assert {key: data for images in identities.values() for key, data in images.items()} == dict(
        members
    )
    monkeypatch.setattr(containers, "_MAX_REWINDS", 1)
    with pytest.raises(Sf2Error, match="lie apart") as caught:
        listed(path)
    assert "gunzip" in str(caught.value.remedy)


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_raises_nothing_else(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", {f"anna/{i}.jpg": bytes([i]) * 700 for i in range(4)})
    whole = path.read_bytes()[:7000]
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(random.integers(1, 8))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        path.write_bytes(data)
        with suppress(Sf2Error, BadImageError):
            listed(path)


def test_no_archive(tmp_path):
    with pytest.raises(Sf2Error, match=r"none\.tar: cannot be read \(No such file"):
        ArchiveSource(tmp_path / "none.tar")
    with pytest.raises(Sf2Error, match=r"a\.7z: not named as an archive"):
        ArchiveSource(tmp_path / "a.7z")
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(Sf2Error, match=r"pipe\.tar: not a file"):
        ArchiveSource(tmp_path / "pipe.tar")
