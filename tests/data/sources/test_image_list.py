import re
from itertools import product

import numpy as np
import pytest

from sf2cli.data.images import BadImageError
from sf2cli.data.pack import PackOptions, pack
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.image_list import ListSource
from sf2cli.data.sources.list_format import LABEL_NAMES, PATH_NAMES, find_format
from sf2cli.data.sources.registry import SourceOptions
from sf2cli.errors import Sf2Error
from tests.pictures import files_below, make_photos, sound


def listed(tmp_path, text, name="a.csv", root=None):
    """The paths of each identity, relative to the root."""
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    source = ListSource(path, root or tmp_path)
    return {
        one.name: [image.place.split(f"{source.root}/", 2)[-1] for image in one.images]
        for one in sound(source.identities())
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "anna/1.jpg,anna\nbo/2.jpg,bo\n"),
        ("a.csv", "anna,anna/1.jpg\nbo,bo/2.jpg\n"),
        ("a.csv", "anna , anna/1.jpg\nbo, bo/2.jpg \n"),
        ("a.csv", "path,label\nanna/1.jpg,anna\nbo/2.jpg,bo"),
        ("a.csv", "\ufeffLabel , Path\r\nanna,anna/1.jpg\r\n\r\nbo,bo/2.jpg\r\n"),
        ("a.csv", 'id,filename,split,identity\n0,"anna/1.jpg",train,anna\n1,bo/2.jpg,test,"bo"\n'),
        ("a.tsv", "path\tlabel\nanna/1.jpg\tanna\nbo/2.jpg\tbo\n"),
        ("a.txt", "anna/1.jpg anna\r\nbo/2.jpg bo\r\n"),
        ("a.txt", "anna/1.jpg,anna\nbo/2.jpg,bo\n"),
        ("a.txt", "anna/1.jpg\tanna\nbo/2.jpg\tbo\n"),
        ("a", "anna/1.jpg   anna\n\nbo/2.jpg bo \n"),
    ],
)
def test_two_columns(tmp_path, name, text):
    assert listed(tmp_path, text, name) == {"anna": ["anna/1.jpg"], "bo": ["bo/2.jpg"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.lst", "0\t7.000000\tx/1.jpg\n1\t12.000000\ty/2.jpg\n"),
        ("train.lst", "0\t7.0\t3.5\tx/1.jpg\n1\t12\t1\ty/2.jpg\n"),
        ("train.lst", "1\tx/1.jpg\t7\n0\ty/2.jpg\t12\n"),
        (
            "train.lst",
            "\n".join(
                f"1\t{path}\t{label}\t" + "\t".join(map(str, range(14)))
                for path, label in (("x/1.jpg", 7), ("y/2.jpg", 12))
            ),
        ),
        ("train.tsv", "0\tx/1.jpg\t7\n1\ty/2.jpg\t12\n"),
        ("train.tsv", "idx\tpath\tlabel\r\n0\tx/1.jpg\t7\r\n1\ty/2.jpg\t12\r\n"),
        ("train.csv", "id,path,label\n0,x/1.jpg,7.0\n1,y/2.jpg,12.0\n"),
    ],
)
def test_numbered_lists(tmp_path, name, text):
    assert listed(tmp_path, text, name) == {"7": ["x/1.jpg"], "12": ["y/2.jpg"]}


def test_the_order_is_that_of_the_labels_then_of_the_list(tmp_path):
    lines = [
        f"{path}.jpg,{label}" for path, label in zip("fdbace", (10, 2, 33, 2, 10, 2), strict=True)
    ]
    expected = {"2": ["d.jpg", "a.jpg", "e.jpg"], "10": ["f.jpg", "c.jpg"], "33": ["b.jpg"]}
    found = listed(tmp_path, "\n".join(lines))
    assert (found, list(found)) == (expected, list(expected))
    found = listed(tmp_path, "\n".join([*lines, "x.jpg,2a", "y.jpg,é", "z.jpg,Z"]))
    assert list(found) == ["10", "2", "2a", "33", "Z", "é"]


def test_names_and_paths_of_every_kind(tmp_path):
    text = 'a b/1 2.jpg,J. R. Oppenheimer\n"x,""y"".jpg",王 小明\n./q/../r.jpg,007\n'
    assert listed(tmp_path, text) == {
        "007": ["q/../r.jpg"],
        "J. R. Oppenheimer": ["a b/1 2.jpg"],
        "王 小明": ['x,"y".jpg'],
    }
    assert listed(tmp_path, "a b/1 2.jpg anna\n", "a.txt") == {"anna": ["a b/1 2.jpg"]}


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("a.csv", "", "it is empty"),
        ("a.csv", "\n\r\n \n", "it is empty"),
        ("a.csv", "path,label\n", "a header and no image"),
        ("a.csv", "one\ntwo\n", "line 1: 'one' is one column"),
        ("a.csv", "bild,wer\na/1.jpg,anna\n", "the header 'bild,wer' lacks a column of paths"),
        ("a.csv", "bild,label\na/1.jpg,anna\n", "lacks a column of paths (path, image_path"),
        ("a.csv", "path,wer\na/1.jpg,anna\n", "lacks a column of labels (label, identity"),
        ("a.csv", "a.jpg,anna\nb.jpg\n", "line 2: 'b.jpg' has 1 columns"),
        ("a.csv", "a.jpg,anna\n\nb.jpg,\n", "line 3: 'b.jpg,' has no label"),
        ("a.csv", "a.jpg,anna\n,bo\n", "line 2: ',bo' has no path"),
        ("a.csv", 'a.jpg,anna\n"b.jpg,bo\n', "line 2: '\"b.jpg,bo' is no CSV"),
        ("a.csv", b"a.jpg,anna\nb\xff.jpg,bo\n", "line 2: not UTF-8 text"),
        ("a.csv", "a.jpg,anna\n" + "x" * 20_000, "line 2: over 16384 bytes long"),
        ("a.csv", "a.jpg,anna\n../b.jpg,bo\n", "line 2: the path '../b.jpg' leads out of"),
        ("a.csv", "a/../../b.jpg,bo\n", "line 1: the path 'a/../../b.jpg' leads out of"),
        ("a.csv", "/etc/b.jpg,bo\n", "line 1: the path '/etc/b.jpg' leads out of"),
        ("a.csv", "b\0.jpg,bo\n", "leads out of"),
        ("a.csv", ".,bo\n", "line 1: the path '.' leads out of"),
    ],
)
def test_a_list_that_cannot_be_packed(tmp_path, name, text, named):
    with pytest.raises(Sf2Error, match=re.escape(named)):
        listed(tmp_path, text, name)


def test_a_whole_path_within_the_root_is_one(tmp_path):
    assert listed(tmp_path, f"{tmp_path}/b.jpg,bo\n") == {"bo": ["b.jpg"]}
    sibling = tmp_path.with_name(tmp_path.name + "x")
    with pytest.raises(Sf2Error, match="leads out of"):
        listed(tmp_path, f"{sibling}/b.jpg,bo\n")


def test_no_list_and_no_root(tmp_path):
    with pytest.raises(Sf2Error, match=r"none\.csv: cannot be read \(No such file"):
        ListSource(tmp_path / "none.csv", tmp_path)
    with pytest.raises(Sf2Error, match=r"the folder of its images, .*/none, is none"):
        listed(tmp_path, "a.jpg,anna\n", root=tmp_path / "none")


def test_every_name_of_a_column():
    for path, label in product(PATH_NAMES, LABEL_NAMES):
        found = find_format(".csv", f"x,{label.upper()},{path}", "")
        assert (found.path, found.label, found.header) == (2, 1, True)


def test_random_text_raises_nothing_else(tmp_path):
    random = np.random.default_rng(0)
    alphabet = [*'ab1.,\t "\n\r\0/', ".jpg", "é", "path", "label", "..", "7.0"]
    named = 0
    for _ in range(300):
        text = "".join(random.choice(alphabet, int(random.integers(0, 60))))
        try:
            found = listed(tmp_path, text, random.choice(["a.csv", "a.lst", "a.txt"]))
        except Sf2Error:
            named += 1
        else:
            assert sum(map(len, found.values())) > 0
    assert 0 < named < 300


def test_a_list_packs_as_its_folder_does(tmp_path):
    """Names, order and keys are the same: only what the manifest says of the source differs."""
    counts = {"anna": 2, "bo": 1, "carl": 3}
    photos = make_photos(tmp_path / "photos", counts)
    lines = [f"{name}/{j}.jpg,{name}\r\n" for j in range(3) for name in counts if j < counts[name]]
    (tmp_path / "a.csv").write_text("path,label\r\n" + "".join(lines))
    reading = SourceOptions(images=photos)
    options = PackOptions(holdout=1, shard_bytes=6000)
    for place in ("one", "two"):
        pack(str(tmp_path / "a.csv"), tmp_path / place / "set", options, reading)
    pack(str(photos), tmp_path / "three" / "set", options)
    one, two, three = (files_below(tmp_path / place) for place in ("one", "two", "three"))
    assert one == two
    assert one.keys() == three.keys()
    differing = {name for name in one if one[name] != three[name]}
    assert differing == {"set-train/manifest.json", "set-test/manifest.json"}


def test_missing_images_are_counted_and_named(tmp_path):
    photos = make_photos(tmp_path / "photos", {"anna": 2})
    (photos / "folder.jpg").mkdir()
    (tmp_path / "a.csv").write_text(
        "anna/0.jpg,1\nanna/7.jpg,1\nanna/1.jpg,2\nfolder.jpg,2\nanna/9.jpg,3\n"
    )
    reading = SourceOptions(images=photos)
    with pytest.raises(Sf2Error, match=r"a\.csv line 2: .*anna/7\.jpg: cannot be read \(No such"):
        pack(str(tmp_path / "a.csv"), tmp_path / "set", PackOptions(on_bad="fail"), reading)
    report = pack(str(tmp_path / "a.csv"), tmp_path / "set", PackOptions(on_bad="skip"), reading)
    assert [one["source"] for one in report.skipped] == [
        "1/anna/7.jpg",
        "2/folder.jpg",
        "3/anna/9.jpg",
    ]
    assert report.dropped == [{"identity": "3", "images": 0}]
    assert PackedSet.open(tmp_path / "set").manifest.identities == ["1", "2"]


def test_an_image_that_went_away_is_a_bad_one(tmp_path):
    photos = make_photos(tmp_path / "photos", {"anna": 1})
    (tmp_path / "a.csv").write_text("anna/0.jpg,anna\n")
    (identity,) = ListSource(tmp_path / "a.csv", photos).identities()
    (image,) = identity.images
    assert (image.key, image.read()) == ("anna/0.jpg", (photos / "anna" / "0.jpg").read_bytes())
    (photos / "anna" / "0.jpg").unlink()
    with pytest.raises(BadImageError, match="No such file"):
        image.read()
