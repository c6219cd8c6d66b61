"""Pairs lists in both forms, and what is said of lists and images that do not fit."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.listed_files import open_pair_list
from sf2cli.evaluation.pair_list import read_pair_list
from sf2cli.evaluation.pair_set import Repeats
from tests.evaluation.small import photo, write_photos

GENERIC = ["a/1.png b/1.png 0", "a/1.png a/2.png 1", "b/1.png a/2.png 0"]
LFW = ["2\t1", "Ann_B\t1\t12", "Ann_B\t1\tCy\t3", "Cy\t3\t4", "Cy\t4\tAnn_B\t12"]
ENDS = {"unix": "\n", "windows": "\r\n", "old mac": "\r"}


def write(path, lines, end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_generic_lists(tmp_path, end):
    found = read_pair_list(write(tmp_path / "x.txt", GENERIC, end))
    assert found.form == "pairs list"
    assert found.paths == ["a/1.png", "b/1.png", "a/2.png"]
    assert found.first.tolist() == [0, 0, 1]
    assert found.second.tolist() == [1, 2, 2]
    assert found.issame.tolist() == [False, True, False]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_lfw_lists(tmp_path, end):
    found = read_pair_list(write(tmp_path / "pairs.txt", LFW, end))
    assert found.form == "LFW pairs.txt"
    assert found.paths == ["Ann_B/Ann_B_0001", "Ann_B/Ann_B_0012", "Cy/Cy_0003", "Cy/Cy_0004"]
    assert found.first.tolist() == [0, 0, 2, 3]
    assert found.second.tolist() == [1, 2, 3, 1]
    assert found.issame.tolist() == [True, False, True, False]


def test_one_number_in_lfws_first_line_is_a_single_fold(tmp_path):
    found = read_pair_list(write(tmp_path / "pairsDevTest.txt", ["1", "A\t1\t2", "A\t1\tB\t1"]))
    assert found.issame.tolist() == [True, False]


def test_byte_order_mark_blank_lines_and_spaces_in_names(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeff\n\nmy photos/a 1.png\tb.png\t1 \n\n".encode())
    assert read_pair_list(path).paths == ["my photos/a 1.png", "b.png"]


UNSOUND = {
    "empty": ([], "no pairs in it"),
    "two columns": ([*GENERIC, "a/1.png b/1.png"], "line 4: found 2 columns, 'a/1.png b/1.png'"),
    "four columns": (["a b c 1", *GENERIC], "line 1: found 4 columns"),
    "a label of 2": (["a b 2"], "expected `path1 path2 0|1`"),
    "several": (["a b 2", *GENERIC, "a", "b"], "line 1: found 3 columns.*; 2 more lines"),
    "LFW without its first line": (LFW[1:], "line 1: found 3 columns, 'Ann_B 1 12'"),
    "LFW with odd columns": ([*LFW, "Cy 1 2 3 4"], "line 6: found 5 columns.*expected `name i j`"),
    "LFW with a name for a number": (["1 1", "Cy one 2"], "line 2: found 3 columns"),
    "LFW with image 0": (["1 1", "Cy 0 2"], "line 2: found 3 columns"),
    "LFW cut short": (LFW[:-1], "3 pairs, where its first line, '2 1', says 4"),
    "LFW without pairs": (LFW[:1], "0 pairs, where its first line, '2 1', says 4"),
}


@pytest.mark.parametrize(("lines", "message"), UNSOUND.values(), ids=UNSOUND)
def test_lists_that_do_not_fit_are_refused(tmp_path, lines, message):
    path = write(tmp_path / "x.txt", lines)
    with pytest.raises(Sf2Error, match=message) as failure:
        read_pair_list(path)
    assert failure.value.message.startswith(str(path))
    assert failure.value.remedy


@pytest.mark.parametrize("seed", range(10))
def test_repeated_pairs_are_counted(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 4, (2, int(generator.integers(0, 15))))
    same = generator.random(len(first)) < 0.5
    seen: dict[frozenset[int], set[bool]] = {}
    lines = 0
    for a, b, kind in zip(first.tolist(), second.tolist(), same.tolist(), strict=True):
        lines += frozenset((a, b)) in seen
        seen.setdefault(frozenset((a, b)), set()).add(kind)
    found = Repeats.of(first, second, same)
    assert (found.lines, found.contradictory) == (lines, sum(len(k) == 2 for k in seen.values()))
    assert found.selves == sum(a == b for a, b in zip(first.tolist(), second.tolist(), strict=True))
    assert len(found.notes()) == (lines > 0) + (found.selves > 0)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(Sf2Error, match=r"x\.txt: not UTF-8 text"):
        read_pair_list(tmp_path / "x.txt")
    with pytest.raises(Sf2Error, match=r"none\.txt: cannot be read \(No such file"):
        read_pair_list(tmp_path / "none.txt")


def test_images_are_found_by_their_path_or_lfw_name(tmp_path):
    root = write_photos(tmp_path / "photos", identities=2, images=2)
    generic = ["id0/id0_0001.png id0/id0_0002.png 1", "id0/id0_0001.png id1/id1_0002.png 0"]
    lfw = ["1\t1", "id0\t1\t2", "id0\t1\tid1\t2"]
    for lines in (generic, lfw):
        pairs = open_pair_list(write(tmp_path / "x.txt", lines), root)
        assert (len(pairs.faces), pairs.genuine, pairs.impostor) == (3, 1, 1)
        assert pairs.faces.source(2) == "id1/id1_0002.png"
        np.testing.assert_array_equal(pairs.faces.decode(2, 16, 1), photo(1, 1))


def test_hash_changes_with_the_list_and_with_an_image(tmp_path):
    root = write_photos(tmp_path / "photos", identities=2, images=2)
    lines = ["id0/id0_0001.png id0/id0_0002.png 1", "id0/id0_0001.png id1/id1_0002.png 0"]
    path = write(tmp_path / "x.txt", lines)
    first = open_pair_list(path, root).data_sha256
    assert open_pair_list(path, root).data_sha256 == first
    (root / "id1" / "id1_0002.png").write_bytes((root / "id1" / "id1_0001.png").read_bytes())
    second = open_pair_list(path, root).data_sha256
    third = open_pair_list(write(path, lines[::-1]), root).data_sha256
    assert len({first, second, third}) == 3


def test_missing_images_are_counted_and_named(tmp_path):
    root = write_photos(tmp_path / "photos", identities=1, images=2)
    missing = [f"id0/id0_0001.png id9/{i}.png 0" for i in range(8)]
    path = write(tmp_path / "x.txt", ["id0/id0_0001.png id0/id0_0002.png 1", *missing])
    expected = r"8 of its 10 images are missing in .*photos: id9/0\.png, .*id9/4\.png and 3 more"
    with pytest.raises(Sf2Error, match=expected):
        open_pair_list(path, root)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "id0/../../secret.png"])
def test_paths_that_leave_the_root_are_refused(tmp_path, name):
    root = write_photos(tmp_path / "photos", identities=1, images=2)
    path = write(tmp_path / "x.txt", [f"id0/id0_0001.png {name} 0"])
    with pytest.raises(Sf2Error, match=r"lies outside --images"):
        open_pair_list(path, root)


def test_root_that_is_no_folder_is_refused(tmp_path):
    path = write(tmp_path / "x.txt", GENERIC)
    with pytest.raises(Sf2Error, match=r"--images .*nowhere: no such folder"):
        open_pair_list(path, tmp_path / "nowhere")


def test_only_genuine_pairs_are_refused(tmp_path):
    root = write_photos(tmp_path / "photos", identities=1, images=2)
    path = write(tmp_path / "x.txt", ["id0/id0_0001.png id0/id0_0002.png 1"])
    with pytest.raises(Sf2Error, match=r"x\.txt: none of the 1 pairs is impostor"):
        open_pair_list(path, root)
