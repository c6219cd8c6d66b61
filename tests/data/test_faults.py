"""What is wrong with a source is counted and named, and stops nothing unless that is asked for."""

import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from sf2cli.data.images import MAX_PIXELS, decode_image
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.registry import SourceOptions
from sf2cli.data.verify import verify_set
from sf2cli.errors import Sf2Error
from tests.data.recordio_writer import insightface, write_rec
from tests.pictures import encode, noise

GOOD = [encode(noise(16, 16, seed=seed), "JPEG") for seed in range(8)]


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def packed_with(source, place, skipped, **options):
    """The set of a source with these faults, {name: reason}; with --on-bad fail none comes out."""
    with pytest.raises(Sf2Error) as caught:
        pack(str(source), place / "fail", PackOptions(on_bad="fail", **options))
    assert any(reason in caught.value.message for reason in skipped.values())
    report = pack(str(source), place / "set", PackOptions(**options))
    assert [one["source"] for one in report.skipped] == list(skipped)
    for one in report.skipped:
        assert skipped[one["source"]] in one["reason"]
    verify_set(place / "set", 1)
    packed = PackedSet.open(place / "set")
    assert packed.manifest.made_by["skipped"] == report.skipped
    return packed


def counts(packed):
    manifest = packed.manifest
    return dict(zip(manifest.identities, manifest.samples_per_identity, strict=True))


def png_bomb(width, height):
    """A PNG of a few hundred bytes that says it is so large."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000), 9)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_300_corrupt_files_among_ten_thousand(tmp_path):
    rng = np.random.default_rng(0)
    bad = set(rng.choice(10_000, 300, replace=False).tolist())
    spoils = [
        lambda data: b"",
        lambda data: data[:200],
        lambda data: b"<html>",
        lambda data: data[50:],
    ]
    members = [
        (f"{i // 50:03d}/{i:05d}.jpg", spoils[i % 4](GOOD[i % 8]) if i in bad else GOOD[i % 8])
        for i in range(10_000)
    ]
    report = pack(
        str(write_tar(tmp_path / "all.tar", members)), tmp_path / "set", PackOptions(workers=2)
    )
    assert [one["source"] for one in report.skipped] == [members[i][0] for i in sorted(bad)]
    assert all(one["reason"] for one in report.skipped)
    assert len(PackedSet.open(tmp_path / "set")) == 9700


def test_images_of_every_odd_kind(tmp_path):
    cmyk = Image.fromarray(noise(16, 16)).convert("CMYK")
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    grey = encode(noise(16, 16, channels=0), "JPEG")
    members = [
        ("a/cmyk.jpg", encode(cmyk, "JPEG")),
        ("a/deep.png", encode(Image.fromarray(deep), "PNG")),
        ("a/grey.jpg", grey),
        ("a/palette.png", encode(Image.fromarray(noise(16, 16)).quantize(16), "PNG")),
        ("a/alpha.png", encode(Image.fromarray(noise(16, 16, 4)), "PNG")),
        ("a/progressive.jpg", encode(noise(16, 16), "JPEG", progressive=True)),
        ("b/empty.jpg", b""),
        ("b/huge.png", png_bomb(60_000, 60_000)),
        ("b/large.png", png_bomb(9000, 9000)),
        ("b/sound.jpg", GOOD[0]),
    ]
    packed = packed_with(
        write_tar(tmp_path / "odd.tar", members),
        tmp_path,
        {
            "b/empty.jpg": "empty file",
            "b/huge.png": f"60000 x 60000 pixels is over the limit of {MAX_PIXELS}",
            "b/large.png": f"9000 x 9000 pixels is over the limit of {MAX_PIXELS}",
        },
    )
    assert counts(packed) == {"a": 6, "b": 1}
    places = {packed.source(i): i for i in range(len(packed))}
    assert packed.read(places["a/cmyk.jpg"]) == members[0][1]
    assert (decode_image(packed.read(places["a/deep.png"]), 1)[:, :, 0] == deep >> 8).all()
    expected = np.asarray(cmyk.convert("RGB"), dtype=np.int16)
    found = decode_image(packed.read(places["a/cmyk.jpg"]), 3).astype(np.int16)
    assert np.abs(found - expected).mean() < 40


def test_a_bomb_within_the_limit_of_pixels_is_decoded_in_its_memory(tmp_path):
    """8000 x 8000 says little and holds less: it is truncated, which its decoding finds."""
    source = write_tar(
        tmp_path / "a.tar", [("a/1.png", png_bomb(8000, 8000)), ("a/2.jpg", GOOD[0])]
    )
    assert counts(packed_with(source, tmp_path, {"a/1.png": "truncated"})) == {"a": 1}


def test_an_archive_with_escapes_links_and_doubles(tmp_path):
    source = tmp_path / "all.tar"
    write_tar(
        source,
        [
            ("a/1.jpg", GOOD[0]),
            ("../../etc/cron.d/a.jpg", GOOD[1]),
            ("/abs/2.jpg", GOOD[2]),
            ("a/../../3.jpg", GOOD[3]),
            ("a/4.jpg", GOOD[4]),
            ("a/1.jpg", GOOD[5]),
            ("a/notes.txt", b"garbage"),
        ],
    )
    with tarfile.open(source, "a") as tar:
        link = tarfile.TarInfo("a/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    packed = packed_with(
        source,
        tmp_path,
        {
            "../../etc/cron.d/a.jpg": "leads out of the archive",
            "/abs/2.jpg": "leads out of the archive",
            "a/../../3.jpg": "leads out of the archive",
            "a/link.jpg": "a/link.jpg is a link",
            "a/1.jpg": "a/1.jpg is in it twice",
        },
    )
    assert counts(packed) == {"a": 2}
    # As it would be unpacked: the last one of that name.
    assert packed.read(0) == GOOD[5]
    assert packed.manifest.made_by["ignored_files"] == 1


@pytest.mark.parametrize("cut", [3 * 1536 + 700, 3 * 1536 + 100])
def test_a_truncated_archive_gives_what_is_before_the_cut(tmp_path, cut):
    source = write_tar(tmp_path / "all.tar", [(f"a/{i}.jpg", GOOD[i][:1024]) for i in range(5)])
    content = [encode(noise(8, 8, seed=i), "JPEG") for i in range(5)]
    assert all(512 < len(one) <= 1024 for one in content)
    write_tar(source, [(f"a/{i}.jpg", one) for i, one in enumerate(content)])
    source.write_bytes(source.read_bytes()[:cut])
    report = pack(str(source), tmp_path / "set", PackOptions())
    assert report.skipped[0]["source"] == "all.tar"
    assert "of the tar: " in report.skipped[0]["reason"]
    assert counts(PackedSet.open(tmp_path / "set")) == {"a": 3}
    with pytest.raises(Sf2Error, match="of the tar: "):
        pack(str(source), tmp_path / "other", PackOptions(on_bad="fail"))


def test_shards_with_garbage_doubles_and_gaps(tmp_path):
    source = tmp_path / "x-0.tar"
    members = [
        *(("0.cls", b"3"), ("0.jpg", GOOD[0])),
        *(("1.jpg", GOOD[1]),),
        *(("2.cls", b"three"), ("2.jpg", GOOD[2])),
        *(("3.cls", b"7"), ("3.cls", b"9"), ("3.jpg", GOOD[3])),
        *(("4.cls", b"7"), ("4.jpg", GOOD[4]), ("4.png", GOOD[4])),
        *(("5.cls", b"\xff\xfe"), ("5.jpg", GOOD[5])),
        *(("6.cls", b"9"), ("6.json", b"{"), ("6.jpg", GOOD[6])),
        *(("7.cls", b"9"), ("7.jpg", b"garbage")),
    ]
    write_tar(source, members)
    whole = sum(512 + len(data) + -len(data) % 512 for _, data in members)
    source.write_bytes(source.read_bytes()[: whole + 100])
    packed = packed_with(
        source,
        tmp_path,
        {
            "1": "it has no label",
            "2": "'three' is no whole number",
            "3.cls": "the extension .cls is there twice",
            "4": "it has 2 images",
            "5": ".cls holds no label",
            "x-0.tar": "of the tar: ",
            "9/7.jpg": "not a JPEG",
        },
    )
    # Nothing is between the labels 3 and 9, and nothing need be.
    assert counts(packed) == {"3": 1, "9": 1}
    assert packed.labels.tolist() == [0, 1]


def test_a_list_with_bad_lines(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(GOOD[i])
    text = "0.jpg,anna\n../secret.jpg,anna\n,bo\n1.jpg\n2.jpg,\n2.jpg,carl\ngone.jpg,carl\n"
    (tmp_path / "all.csv").write_text(text)
    reading = SourceOptions(images=tmp_path)
    report = pack(str(tmp_path / "all.csv"), tmp_path.parent / "set", PackOptions(), reading)
    assert [(one["source"], one["reason"].rpartition(": ")[2][:30]) for one in report.skipped] == [
        ("all.csv line 2", f"the path '../secret.jpg' leads out of {tmp_path}"[:30]),
        ("all.csv line 3", "',bo' has no path"),
        ("all.csv line 4", "'1.jpg' has 1 columns"),
        ("all.csv line 5", "'2.jpg,' has no label"),
        ("carl/gone.jpg", "cannot be read (No such file or directory)"[:30]),
    ]
    assert counts(PackedSet.open(tmp_path.parent / "set")) == {"anna": 1, "carl": 1}


def test_a_gap_between_the_classes_of_a_rec(tmp_path):
    records = insightface([[GOOD[0]], [GOOD[1], b"", GOOD[2]], [GOOD[3]]])
    # The middle class is 1000000 in place of 1.
    records = [(key, 1_000_000 if label == 1 else label, image) for key, label, image in records]
    write_rec(tmp_path / "train.rec", records)
    packed = packed_with(tmp_path / "train.rec", tmp_path / "out", {"1000000/3": "empty file"})
    assert counts(packed) == {"0": 1, "2": 1, "1000000": 2}
    assert packed.labels.tolist() == [0, 1, 2, 2]
