import re
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

from sf2cli.data.images import BadImageError
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources import recordio
from sf2cli.data.sources.record_file import RecordFile
from sf2cli.data.sources.recordio import RecordIoSource, count_images
from sf2cli.errors import Sf2Error
from tests.data.recordio_writer import MAGIC, chunks, insightface, write_rec
from tests.pictures import encode, files_below, noise

PICTURES = [
    [encode(noise(8, 8, seed=10 * label + j), "PNG") for j in range(count)]
    for label, count in enumerate((3, 1, 2))
]
EXPECTED = {
    "0": {f"0/{j + 1}": PICTURES[0][j] for j in range(3)},
    "1": {"1/4": PICTURES[1][0]},
    "2": {"2/5": PICTURES[2][0], "2/6": PICTURES[2][1]},
}


def listed(path):
    found = RecordIoSource(path).identities()
    return {one.name: {image.key: image.read() for image in one.images} for one in found}


@pytest.fixture
def rec(tmp_path):
    return tmp_path / "train.rec"


@pytest.mark.parametrize("seed", range(40))
def test_any_payload_comes_back_with_the_magic_at_any_place(tmp_path, seed):
    """Random bytes with the magic number strewn in, aligned and not, header and labels too."""
    random = np.random.default_rng(seed)
    records = []
    for key in range(60):
        image = bytearray(random.bytes(int(random.integers(0, 120))))
        for _ in range(int(random.integers(0, 5))):
            place = int(random.integers(0, len(image) + 1)) // int(random.choice([1, 4])) * 4
            image[place : place + 4] = MAGIC
        # The id is the magic too, at times: then the cut is within the header.
        number = int.from_bytes(MAGIC, "little") if random.random() < 0.1 else key
        labels = 7 if random.random() < 0.5 else [float(key)] * int(random.integers(1, 5))
        records.append((number, labels, bytes(image)))
    path = tmp_path / "a.rec"
    offsets = write_rec(path, records)
    file = RecordFile(path)
    assert list(file.offsets()) == offsets
    firsts = [7.0 if labels == 7 else labels[0] for _, labels, _ in records]
    assert file.labels(offsets).tolist() == firsts
    for offset, (number, labels, image) in zip(offsets, records, strict=True):
        assert file.image(offset) == image
        head = file.head(offset)
        assert (head.id, head.image_bytes) == (number, len(image))
        assert (head.flag, head.labels) == (
            (0, (7.0,)) if labels == 7 else (len(labels), tuple(labels[:2]))
        )


def test_the_parts_are_as_the_format_says():
    """By hand, from the format's text: cut at multiples of four, the magic dropped."""
    magic, four = bytes.fromhex("0a23d7ce"), b"abcd"
    assert chunks(four) == magic + b"\x04\0\0\0abcd"
    assert chunks(b"abcde") == magic + b"\x05\0\0\0abcde\0\0\0"
    assert chunks(b"a" + magic) == magic + b"\x05\0\0\0a" + magic + b"\0\0\0"
    assert chunks(four + magic + b"x") == (
        magic + b"\x04\0\0\x20abcd" + magic + b"\x01\0\0\x60x\0\0\0"
    )
    assert chunks(magic + magic) == (
        magic + b"\0\0\0\x20" + magic + b"\0\0\0\x40" + magic + b"\0\0\0\x60"
    )


@pytest.mark.parametrize("flag2", [False, True])
def test_insightface_layout(rec, flag2):
    write_rec(rec, insightface(PICTURES, flag2))
    assert listed(rec) == EXPECTED


def test_an_index_in_any_order_or_none(rec):
    write_rec(rec, insightface(PICTURES))
    index = rec.with_suffix(".idx")
    lines = index.read_text().splitlines()
    np.random.default_rng(0).shuffle(lines)
    index.write_text("\r\n".join(lines) + "\n\n")
    assert listed(rec) == EXPECTED
    index.unlink()
    assert listed(rec) == EXPECTED


def test_without_index_and_ids_records_count_in_the_order_of_the_file(rec):
    write_rec(rec, [(5, labels, image) for _, labels, image in insightface(PICTURES)])
    rec.with_suffix(".idx").unlink()
    found = listed(rec)
    assert list(found["0"]) == ["0/0", "0/1", "0/2"]
    assert [[*images.values()] for images in found.values()] == PICTURES


def test_classes_come_from_the_records_not_from_the_identities(rec):
    """Shuffled for DALI: the images of a class lie apart, and record 0 is an image."""
    pairs = [(label, image) for label, images in enumerate(PICTURES) for image in images]
    order = [4, 0, 3, 5, 1, 2]
    write_rec(rec, [(key, *pairs[i]) for key, i in enumerate(order)])
    found = listed(rec)
    assert list(found) == ["0", "1", "2"]
    assert list(found["0"]) == ["0/1", "0/4", "0/5"]
    assert list(found["0"].values()) == PICTURES[0]
    assert found["2"] == {"2/0": PICTURES[2][0], "2/3": PICTURES[2][1]}


@pytest.mark.parametrize("images", [16_777_215, 16_777_216, 17_091_657, 42_474_557, 25_130_987])
def test_images_are_counted_where_float32_cannot(images):
    """MS1M to WebFace42M: the header's N + 1 is off by up to two there."""
    for identities in (1, 617_970):
        header = float(np.float32(images + 1))
        assert count_images(header, images + identities + 1, lambda k=identities: k) == images
        with pytest.raises(ValueError, match="the header tells of"):
            count_images(header, images + identities - 10, lambda k=identities: k)


def test_the_identities_are_counted_in_the_file_then(rec, monkeypatch):
    monkeypatch.setattr(recordio, "EXACT", 5)
    write_rec(rec, insightface(PICTURES, flag2=True))
    assert listed(rec) == EXPECTED


def test_an_empty_image_is_counted_and_named(rec, tmp_path):
    write_rec(rec, insightface([[PICTURES[0][0], b""], PICTURES[2]]))
    with pytest.raises(Sf2Error, match=r"train\.rec record 2 at byte \d+: empty file"):
        pack(str(rec), tmp_path / "set", PackOptions(on_bad="fail"))
    report = pack(str(rec), tmp_path / "set", PackOptions(on_bad="skip"))
    assert report.skipped == [{"source": "0/2", "reason": "empty file"}]
    assert PackedSet.open(tmp_path / "set").manifest.samples_per_identity == [1, 2]


@pytest.mark.parametrize(
    ("label", "named"),
    [
        (2**24, "record 1 has the label 16777216; class ids are float32"),
        (3e9, "class ids are float32 here, which tells them apart below 16777216 only"),
        (-1, "record 1 has the label -1; a class id is a whole number"),
        (0.5, "record 1 has the label 0.5"),
        (float("nan"), "record 1 has the label nan"),
        (float("inf"), "record 1 has the label inf"),
    ],
)
def test_a_label_that_is_no_class(rec, label, named):
    write_rec(rec, [(1, label, PICTURES[0][0])])
    with pytest.raises(Sf2Error, match=re.escape(named)):
        listed(rec)


def test_the_largest_class(rec):
    write_rec(rec, [(1, 2**24 - 1, PICTURES[0][0]), (2, 2**24 - 2, PICTURES[0][1])])
    assert list(listed(rec)) == ["16777214", "16777215"]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_cut_file_is_named_with_the_offset_wherever_it_is_cut(rec, indexed):
    offsets = write_rec(rec, insightface([[b"1234567"], [b"", MAGIC * 2]]))
    whole = rec.read_bytes()
    if not indexed:
        rec.with_suffix(".idx").unlink()
    named: Counter[str] = Counter()
    # Without an index, a cut between two records leaves a whole file.
    cuts = [end for end in range(1, len(whole)) if indexed or end not in offsets]
    for end in cuts:
        rec.write_bytes(whole[:end])
        with pytest.raises(Sf2Error, match=r"train\.(rec|idx)") as caught:
            listed(rec)
        named[re.sub(r"\d+", "#", caught.value.message.partition(": ")[2])] += 1
    assert sum(named.values()) == len(cuts)
    within = sum(count for what, count in named.items() if "# of #: the file ends within" in what)
    other = sum(count for what, count in named.items() if "key # is at byte # of #" in what)
    assert (within + other, other > 0) == (len(cuts), indexed)


def test_a_cut_between_records_is_seen_by_the_header(rec):
    offsets = write_rec(rec, insightface(PICTURES))
    rec.write_bytes(rec.read_bytes()[: offsets[5]])
    with pytest.raises(Sf2Error, match=r"not the index of its \.rec file: key 6 is at byte"):
        listed(rec)
    index = rec.with_suffix(".idx")
    write_rec(rec, insightface(PICTURES))
    lines = index.read_text().splitlines()
    index.write_text("\n".join(lines[:3] + lines[5:]))
    with pytest.raises(Sf2Error, match="8 records are listed, but the first 6 keys are not 1 to 6"):
        listed(rec)
    index.write_text("\n".join(lines[:3] + lines[-1:]))
    with pytest.raises(Sf2Error, match="4 records are listed, but the header tells of 6 images"):
        listed(rec)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "it is empty"),
        ("1\n", r"line 1 is b'1'"),
        ("1\t0\n2\tx\n", r"line 2 is b'2\\tx'"),
        ("1\t99999999999999999999999999\n", "line 1 is"),
        ("1\t400000\n", "key 1 is at byte 400000 of"),
        ("-1\t0\n", "key -1 is at byte 0"),
        ("1\t2\n", "key 1 is at byte 2"),
        ("1\t0\n1\t0\n", "a key is there twice"),
        ("\0" * 9999, "line 1 is"),
    ],
)
def test_a_bad_index(rec, text, named):
    write_rec(rec, insightface(PICTURES))
    rec.with_suffix(".idx").write_text(text)
    with pytest.raises(Sf2Error, match=named):
        listed(rec)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "no image in it"),
        (b"what is this, then", r"at byte 0 of 18: no record starts there \(found 77 68 61 74\)"),
        (MAGIC + b"\x08\0\0\0" + bytes(8), "a record of 8 bytes, too few for its header"),
        (MAGIC + b"\xff\xff\xff\x1f", "ends within a record of 536870911 bytes"),
        (MAGIC + b"\0\0\0\xe0", "a record's part of kind 7"),
        (MAGIC + b"\0\0\0\x40", "a later part of a record without its first"),
        (MAGIC + b"\0\0\0\x20" + chunks(b"12"), "at byte 8 of 20: a new record within another"),
        (MAGIC + b"\0\0\0\x20", "at byte 8 of 8: the file ends within a record"),
        (chunks(b"\xff\xff\xff\xff" + bytes(40)), "4294967295 labels in a record of 44 bytes"),
    ],
)
def test_a_bad_file(rec, content, named):
    rec.write_bytes(content)
    with pytest.raises(Sf2Error, match=named):
        listed(rec)
    if content:
        rec.with_suffix(".idx").write_text("0\t0\n")
        with pytest.raises(Sf2Error, match=named):
            listed(rec)


def test_random_damage_raises_nothing_else(rec):
    write_rec(rec, insightface(PICTURES))
    index = rec.with_suffix(".idx")
    whole = rec.read_bytes()
    random = np.random.default_rng(0)
    for round_ in range(400):
        spoilt = bytearray(whole)
        for _ in range(int(random.integers(1, 6))):
            spoilt[int(random.integers(len(spoilt)))] = int(random.integers(256))
        rec.write_bytes(spoilt)
        if round_ == 200:
            index.unlink()
        with suppress(Sf2Error, BadImageError):
            listed(rec)


def test_a_record_too_long_for_an_image_is_a_bad_one(rec, monkeypatch):
    write_rec(rec, insightface([[PICTURES[0][0]], [bytes(4000)], [MAGIC * 1000]]))
    monkeypatch.setattr("sf2cli.data.sources.source.MAX_IMAGE_BYTES", 3000)
    images = [image for one in RecordIoSource(rec).identities() for image in one.images]
    assert images[0].read() == PICTURES[0][0]
    for image in images[1:]:
        with pytest.raises(BadImageError, match="over the limit"):
            image.read()


def test_packing_splits_by_identity_and_gives_the_same_bytes(rec, tmp_path):
    write_rec(rec, insightface(PICTURES))
    for place in ("one", "two"):
        pack(str(tmp_path), tmp_path.parent / place / "set", PackOptions(holdout=1, overwrite=True))
    made = files_below(tmp_path.parent / "one")
    assert made == files_below(tmp_path.parent / "two")
    parts = [PackedSet.open(tmp_path.parent / "one" / f"set-{part}") for part in ("train", "test")]
    assert [part.manifest.identities for part in parts] == [["0", "1"], ["2"]]
    read = {part.source(i): part.read(i) for part in parts for i in range(len(part))}
    assert read == {key: image for images in EXPECTED.values() for key, image in images.items()}
    assert parts[0].manifest.made_by["source"]["kind"] == "recordio"


def test_property_is_compared(rec, tmp_path, capsys):
    write_rec(rec, insightface(PICTURES))
    (tmp_path / "property").write_text("3,112,112\n")
    listed(rec)
    assert "warning" not in capsys.readouterr().err
    (tmp_path / "property").write_text("85742,112,112\n5822653\n")
    listed(rec)
    assert "says '85742' classes, train.rec has images of 3" in capsys.readouterr().err
