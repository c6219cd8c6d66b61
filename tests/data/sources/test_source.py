"""What holds for every source that lists a big file."""

import gc
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sf2cli.data.images import BadImageError
from sf2cli.data.sources.registry import KINDS, SourceOptions, find_source
from sf2cli.data.sources.source import SourceImage, SourceImages, checked_name, read_file
from sf2cli.errors import Sf2Error
from tests.data.recordio_writer import write_rec
from tests.data.sources.test_archive import write

IMAGES, IDENTITIES = 5_000, 40


def write_big(tmp_path, kind):
    pairs = [(f"person{i % IDENTITIES:03d}", f"{i:08d}.jpg") for i in range(IMAGES)]
    if kind == "recordio":
        write_rec(tmp_path / "train.rec", ((i, i % IDENTITIES, b"x") for i in range(IMAGES)))
        return tmp_path / "train.rec"
    if kind == "list":
        (tmp_path / "a.csv").write_text("".join(f"{who}/{file},{who}\n" for who, file in pairs))
        return tmp_path / "a.csv"
    if kind == "archive":
        return write(tmp_path / "a.tar", ((f"{who}/{file}", b"x") for who, file in pairs))
    if kind == "parquet":
        labels, files = zip(*pairs, strict=True)
        images = [{"bytes": b"x", "path": file} for file in files]
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
        return tmp_path / "a.parquet"
    members = ((f"{i}.{end}", b"1") for i in range(IMAGES) for end in ("cls", "jpg"))
    return write(tmp_path / "a.tar", members)


@pytest.mark.parametrize("kind", ["recordio", "list", "archive", "parquet", "webdataset"])
def test_an_image_costs_few_bytes_until_it_is_read(tmp_path, kind):
    path = write_big(tmp_path, kind)
    gc.collect()
    tracemalloc.start()
    try:
        source = find_source(str(path), SourceOptions(kind))
        assert sum(len(one.images) for one in source.identities()) == IMAGES
        # Of a listing that goes on, and of one that is over.
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept / IMAGES < 60
    assert peak / IMAGES < 100


@pytest.mark.parametrize("kind", ["recordio", "list", "archive", "parquet", "webdataset"])
def test_the_identities_are_the_same_when_asked_again(tmp_path, kind):
    source = find_source(str(write_big(tmp_path, kind)), SourceOptions(kind))

    def keys():
        return [(one.name, [image.key for image in one.images]) for one in source.identities()]

    first = keys()
    assert sum(len(images) for _, images in first) == IMAGES
    names = [name for name, _ in first if name]
    assert len(names) == len(set(names)) > 0
    assert keys() == first


def test_images_are_made_when_they_are_asked_for():
    made = []

    def image(row):
        made.append(row)
        return SourceImage(str(row), "", bytes)

    images = SourceImages([3, 1, 2], image)
    assert (len(images), made) == (3, [])
    assert next(iter(images)).key == "3"
    assert made == [3]


def test_a_file_too_long_for_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr("sf2cli.data.sources.source.MAX_IMAGE_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(10))
    assert read_file(tmp_path / "a.jpg") == bytes(10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    with pytest.raises(BadImageError, match="over the limit of 10 bytes"):
        read_file(tmp_path / "a.jpg")


def test_names_that_no_manifest_can_hold():
    assert checked_name("王 [x]", "here") == "王 [x]"
    with pytest.raises(Sf2Error, match=r"in 'here' the name b'\\xff' is not UTF-8"):
        checked_name("\udcff", "here")


def test_the_options_go_with_their_kinds(tmp_path):
    for kind in set(KINDS) - {"list"}:
        with pytest.raises(Sf2Error, match=f"SOURCE x is no list but of the kind {kind}"):
            find_source("x", SourceOptions(kind, images=tmp_path))
    for kind in set(KINDS) - {"webdataset"}:
        with pytest.raises(Sf2Error, match=f"not several sets of shards but of the kind {kind}"):
            find_source("x", SourceOptions(kind, same_names="merge"))
