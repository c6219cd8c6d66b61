"""Parquet as the Hugging Face hub ships faces, and as others write it."""

import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sf2cli.data.images import BadImageError
from sf2cli.data.sources import parquet
from sf2cli.data.sources.parquet import ParquetSource
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.errors import Sf2Error
from tests.pictures import encode, noise

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(i):
    return encode(noise(8, 8, seed=i), "PNG")


def hub_schema(names):
    """As `datasets` writes it: the classes' names are in the schema's metadata."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", IMAGE), ("label", pa.int64())], metadata=metadata)


def write_hub(path, labels, names, first=0, group=3):
    images = [{"bytes": picture(first + i), "path": f"{first + i}.png"} for i in range(len(labels))]
    table = pa.table({"image": images, "label": labels}, schema=hub_schema(names))
    pq.write_table(table, path, row_group_size=group)


def read_all(source):
    return {one.name: [(i.key, i.read()) for i in one.images] for one in source.identities()}


def test_the_hubs_files_have_the_classes_names(tmp_path):
    (tmp_path / "data").mkdir()
    write_hub(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 0, 0, 2, 2], ["b", "a", "c"])
    write_hub(tmp_path / "data" / "train-00001-of-00002.parquet", [2, 1], ["b", "a", "c"], first=5)
    source = find_source(str(tmp_path), SourceOptions())
    assert isinstance(source, ParquetSource)
    expected = {
        "b": [(f"b/{i}.png", picture(i)) for i in (0, 1, 2)],
        "a": [("a/6.png", picture(6))],
        "c": [(f"c/{i}.png", picture(i)) for i in (3, 4, 5)],
    }
    assert list(read_all(source).items()) == list(expected.items())
    assert read_all(source) == expected
    assert source.description == {"kind": "parquet", "name": tmp_path.name}
    pattern = find_source(str(tmp_path / "data" / "train-00001-*.parquet"), SourceOptions())
    assert list(read_all(pattern)) == ["a", "c"]
    places = [image.place for one in pattern.identities() for image in one.images]
    assert [place.split(" ", 1)[1] for place in places] == ["row 1", "row 0"]


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (pa.array([10, 9, 9]), ["9", "10"]),
        (pa.array(["ö", "a", "a"]), ["a", "ö"]),
        (pa.array(["x", "y", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([7, 5, 5], pa.uint16()), ["5", "7"]),
        (pa.array(["x", "y", "y"], pa.large_string()), ["x", "y"]),
    ],
)
def test_plain_columns(tmp_path, labels, order):
    images = pa.array([picture(i) for i in range(3)], pa.large_binary())
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"jpg": images, "id": [0, 1, 2], "identity": labels}), path)
    found = read_all(ParquetSource(path))
    assert list(found) == order
    single = next(name for name in order if len(found[name]) == 1)
    assert found[single] == [(f"{single}/0", picture(0))]


def test_shuffled_rows_give_what_sorted_ones_do(tmp_path, monkeypatch):
    """The copy of the images holds what the row groups hold."""
    labels = np.random.default_rng(0).integers(0, 5, 60).tolist()
    write_hub(tmp_path / "shuffled.parquet", labels, list("edcba"), group=4)
    source = ParquetSource(tmp_path / "shuffled.parquet")
    found = read_all(source)
    assert source._copy is not None
    monkeypatch.setattr(parquet, "_TIMES", 10**6)
    grouped = ParquetSource(tmp_path / "shuffled.parquet")
    assert read_all(grouped) == found
    assert grouped._copy is None
    expected = [
        [(f"{'edcba'[k]}/{i}.png", picture(i)) for i in range(60) if labels[i] == k]
        for k in range(5)
    ]
    assert list(found.values()) == expected


def test_row_groups_are_read_once_where_the_rows_are_sorted(tmp_path, monkeypatch):
    write_hub(
        tmp_path / "faces.parquet", sorted(i % 7 for i in range(70)), list("abcdefg"), group=4
    )
    source = ParquetSource(tmp_path / "faces.parquet")
    read = []
    real = parquet.ParquetFile.images
    monkeypatch.setattr(
        parquet.ParquetFile, "images", lambda self, group: read.append(group) or real(self, group)
    )
    assert sum(map(len, read_all(source).values())) == 70
    assert read == list(range(18))


def test_more_files_than_a_process_may_have_open(tmp_path):
    for k in range(70):
        write_hub(tmp_path / f"{k:03d}.parquet", [k], [str(i) for i in range(70)], first=k)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        assert len(read_all(ParquetSource(tmp_path))) == 70
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_image_that_is_not_in_the_file(tmp_path):
    images = [{"bytes": None, "path": "http"}, {"bytes": picture(1), "path": None}, None]
    table = pa.table({"image": pa.array(images, IMAGE), "label": [0, 0, 0]})
    for group in (1, 3):
        pq.write_table(table, tmp_path / "faces.parquet", row_group_size=group)
        (one,) = ParquetSource(tmp_path / "faces.parquet").identities()
        first, second, third = one.images
        assert (second.key, second.read()) == ("0/1", picture(1))
        for absent in (first, third):
            with pytest.raises(BadImageError, match="only a path"):
                absent.read()


def test_too_little_room_for_the_copy(tmp_path, monkeypatch):
    write_hub(tmp_path / "faces.parquet", [i % 5 for i in range(60)], list("abcde"), group=4)

    def full():
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr(parquet.tempfile, "TemporaryFile", full)
    with pytest.raises(Sf2Error, match="too small for a copy") as caught:
        read_all(ParquetSource(tmp_path / "faces.parquet"))
    assert "TMPDIR" in caught.value.remedy


def test_mistakes(tmp_path, monkeypatch):
    path = tmp_path / "faces.parquet"

    def refused(source=path):
        with pytest.raises(Sf2Error) as caught:
            read_all(find_source(str(source), SourceOptions(kind="parquet")))
        return caught.value.message

    assert "no Parquet file (" in refused()
    path.write_bytes(b"PAR1 and nothing else PAR1")
    assert "no Parquet file (" in refused()
    (tmp_path / "empty").mkdir()
    assert "no .parquet file in it" in refused(tmp_path / "empty")

    def write(**columns):
        pq.write_table(pa.table(columns), path)

    image = pa.array([{"bytes": picture(0), "path": "a.png"}], IMAGE)
    write(image=image, other=[1])
    assert "no column of labels (label, identity, identity_id, class ...), but image" in refused()
    write(image=["a.png"], label=[1])
    assert "no column of images" in refused()
    write(image=image, label=[1.5])
    assert "no column of labels" in refused()
    for label in (pa.array([None], pa.int64()), [-1], [""]):
        write(image=image, label=label)
        assert "row 0 of row group 0 has no label" in refused()
    write(image=image, label=["a\nb"])
    assert "holds a line break" in refused()
    write(image=image[:0], label=pa.array([], pa.int64()))
    assert "no rows in it" in refused()
    write_hub(path, [0, 3], ["a", "b"])
    assert "the class 3 has no name; it names 2" in refused()
    write_hub(path, [i // 10 for i in range(40)], list("abcd"), group=10)
    whole = path.read_bytes()
    at = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    path.write_bytes(whole[:at] + b"\xff" * 60 + whole[at + 60 :])
    assert "row group 1 cannot be read (" in refused()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pyarrow, which reads Parquet, is not installed" in refused()
