"""Readers of files that anyone may have made, fed with anything.

Whatever the bytes, a reader ends within its time and memory, with a result or with an `Sf2Error`.
Every file starts as a sound one and is then cut, changed and added to: random bytes alone would
not come past the first check.
"""

import hashlib
import json
import pickle
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sf2cli.data.images import BadImageError, check_jpeg, decode_image
from sf2cli.data.journal import Journal, progress_in
from sf2cli.data.manifest import load_manifest
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.archive import ArchiveSource
from sf2cli.data.sources.image_list import ListSource
from sf2cli.data.sources.recordio import RecordIoSource
from sf2cli.data.sources.webdataset import WebDatasetSource
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.bins import read_bin
from tests.data.recordio_writer import MAGIC, insightface, write_rec
from tests.pictures import encode, noise, stored, write_set

MOST_BYTES = 64_000_000
bounded = settings(
    max_examples=80,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
INTERESTING = [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(8), MAGIC, b"\t", b"\n", b"-1", b"9" * 25]

# Changes of a file: at a place between 0 and 1, bytes are put over or between, or all is cut.
places = st.floats(0, 1, exclude_max=True)
pieces = st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=12))
changes = st.lists(
    st.tuples(st.sampled_from(["over", "between", "cut"]), places, pieces), min_size=1, max_size=6
)


def changed(content, changes):
    """`content` after the changes, one after the other."""
    for how, place, piece in changes:
        at = int(place * len(content))
        if how == "cut":
            content = content[:at]
        else:
            content = content[:at] + piece + content[at + (len(piece) if how == "over" else 0) :]
    return content


def survives(read):
    """Run `read`; whatever it does, it fails clearly and within its memory."""
    tracemalloc.start()
    try:
        with suppress(Sf2Error):
            read()
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_BYTES


def read_source(source):
    """Everything a packing reads."""
    for identity in source.identities():
        for image in identity.images:
            with suppress(BadImageError):
                image.read()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def rec(place):
    """A .rec with its .idx, a record of several parts in it."""
    pictures = [[encode(noise(4, 4, seed=i), "PNG") for i in range(3)], [b"abcd" + MAGIC + b"ef"]]
    path = place / "sound.rec"
    write_rec(path, insightface(pictures, flag2=True))
    return path


@bounded
@given(changes)
def test_rec(rec, place, changes):
    path = place / "alone.rec"
    path.write_bytes(changed(rec.read_bytes(), changes))
    survives(lambda: read_source(RecordIoSource(path)))


@bounded
@given(changes, changes | st.just([]))
def test_rec_and_idx(rec, place, of_index, of_records):
    path = place / "both.rec"
    path.write_bytes(changed(rec.read_bytes(), of_records))
    path.with_suffix(".idx").write_bytes(changed(rec.with_suffix(".idx").read_bytes(), of_index))
    survives(lambda: read_source(RecordIoSource(path)))


LISTS = [
    ("a.lst", b"0\t0.000\tanna/1.jpg\n1\t1.000\tbo/1.jpg\n"),
    ("b.lst", b"1\tanna/1.jpg\t0\n1\tbo/1.jpg\t1\n"),
    ("c.csv", b'path,label\nanna/1.jpg,anna\n"bo/1.jpg","b, o"\n'),
    ("d.txt", b"anna/1.jpg anna\nbo/1.jpg bo\n"),
]


@pytest.mark.parametrize(("name", "content"), LISTS)
@bounded
@given(changes)
def test_list(place, name, content, changes):
    path = place / name
    path.write_bytes(changed(content, changes))

    def read():
        read_source(ListSource(path, place))

    survives(read)


@pytest.fixture(scope="module")
def tar(place):
    pictures = [[stored(noise(4, 4, seed=i)) for i in range(3)], [stored(noise(4, 4))]]
    packed = write_set(place / "tars", pictures)
    return packed.folder / "tars-000000.tar"


@bounded
@given(changes)
def test_tar(tar, place, changes):
    path = place / "some.tar"
    path.write_bytes(changed(tar.read_bytes(), changes))
    survives(lambda: read_source(WebDatasetSource(str(path), None)))
    survives(lambda: read_source(ArchiveSource(path)))


def pickles():
    images = [b"\xff\xd8one", b"two", b"three", b"four"]
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    for protocol in (0, 2, 4):
        yield pickle.dumps((images, [True, False]), protocol)
        yield pickle.dumps((arrays, [np.bool_(True), np.bool_(False)]), protocol)


@bounded
@given(st.sampled_from(list(pickles())), changes)
def test_bin(place, content, changes):
    path = place / "x.bin"
    path.write_bytes(changed(content, changes))
    survives(lambda: read_bin(path))


# Opcodes that ask for memory, or for many steps, by their arguments alone.
@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little"),
        b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"x",
        b"\x80\x02T\xff\xff\xff\x7f",
        b"\x80\x04r\xff\xff\xff\x7f" * 3,
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x04\x95" + (1 << 60).to_bytes(8, "little"),
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"(" * 10_000,
        b"]" + b"2" * 50 + b".",
        b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little"),
        b"\x80\x02K\x01r\x00\x00\x00\x20.",
        # Tuples that hold each other twice, as a key: its hash is that of 2^60 tuples.
        b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
        # The same where a name is expected, which a message might show.
        b"\x80\x02cnumpy\ndtype\n)" + b"2\x86" * 60 + b"\x85R.",
    ],
)
def test_bin_that_asks_for_memory(place, content):
    path = place / "big.bin"
    path.write_bytes(content)
    survives(lambda: read_bin(path))


@pytest.fixture(scope="module")
def folder(place):
    return write_set(place / "set", [[stored(noise(4, 4))], [stored(noise(4, 4, seed=1))]]).folder


# JSON that is no manifest, but not far from one.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@bounded
@given(changes)
def test_manifest_bytes(folder, place, changes):
    (place / "bytes").mkdir(exist_ok=True)
    content = changed((folder / "manifest.json").read_bytes(), changes)
    (place / "bytes" / "manifest.json").write_bytes(content)
    survives(lambda: load_manifest(place / "bytes"))


@settings(bounded, max_examples=40)
@given(st.data())
def test_manifest_fields(folder, data):
    """Any field may hold anything; what is accepted can be opened, or is refused for its files."""
    tree = json.loads((folder / "manifest.json").read_text())
    field = data.draw(st.sampled_from([*tree, "more"]))
    if field == "shards" and data.draw(st.booleans()):
        tree["shards"][0][data.draw(st.sampled_from(list(tree["shards"][0])))] = data.draw(values)
    else:
        tree[field] = data.draw(values)
    other = folder.with_name("fields")
    other.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "manifest.json").write_text(json.dumps(tree))
    survives(lambda: PackedSet.open(other).labels.sum())


@settings(bounded, max_examples=40)
@given(changes)
def test_index(folder, place, changes):
    """An index with a fitting hash is still compared with the manifest."""
    other = folder.with_name("index")
    other.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    content = changed((folder / "index.npy").read_bytes(), changes)
    (other / "index.npy").write_bytes(content)
    tree = json.loads((folder / "manifest.json").read_text())
    tree["index_sha256"] = hashlib.sha256(content).hexdigest()
    (other / "manifest.json").write_text(json.dumps(tree))

    def read():
        packed = PackedSet.open(other)
        for i in range(len(packed)):
            packed.decode(i, 4, 3)

    survives(read)


@bounded
@given(changes)
def test_journal(place, changes):
    (place / "journal").mkdir(exist_ok=True)
    shard = {"file": "a.tar", "samples": 1, "bytes": 1, "sha256": ""}
    line = {"shard": shard, "row": 1, "identities": [["a", 1]], "skipped": [], "dropped": []}
    line |= {"sources_bytes": 1, "sizes": [[4, 4]], "all_grey": True}
    content = "".join(json.dumps(one) + "\n" for one in ({"started_ns": 0}, line, line))
    path = place / "journal" / "journal.jsonl"
    path.write_bytes(changed(content.encode(), changes))
    progress_in(path.parent)
    survives(lambda: Journal(path.parent, {"started_ns": 0}).close())


@bounded
@given(st.sampled_from(["JPEG", "PNG", "BMP", "PPM", "WEBP"]), changes)
def test_image(kind, changes):
    data = changed(encode(noise(24, 24), kind), changes)

    def read():
        with suppress(BadImageError):
            decode_image(data, 3)

    survives(read)


@settings(bounded, max_examples=300)
@given(st.sampled_from([60, 95]), st.booleans(), st.booleans(), changes)
def test_a_jpeg_is_checked_as_it_is_decoded(quality, progressive, grey, changes):
    """An eighth of the size finds the same damage as the whole."""
    pixels = noise(40, 56, channels=0) if grey else noise(40, 56)
    data = encode(pixels, "JPEG", quality=quality, progressive=progressive)
    data = changed(data, changes)

    def verdict(read):
        try:
            read()
        except BadImageError:
            return False
        return True

    try:
        fast = check_jpeg(data)
    except BadImageError:
        fast = False
    if fast is not None:
        assert bool(fast) == verdict(lambda: decode_image(data, 3))
        assert bool(fast) == verdict(lambda: decode_image(data, 1))
