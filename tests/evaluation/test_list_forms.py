"""The forms of lists beside generic ones and LFW's: opensphere's, CALFW's and CPLFW's, CFP's."""

import pytest

from sf2cli.data.images import encode_png
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.cfp import read_cfp
from sf2cli.evaluation.listed_files import open_pair_list
from sf2cli.evaluation.pair_list import read_pair_list
from sf2cli.evaluation.tenfold import contiguous_folds
from tests.evaluation.small import photo


def triples(found):
    return [
        (found.paths[a], found.paths[b], bool(same))
        for a, b, same in zip(found.first, found.second, found.issame, strict=True)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_opensphere_puts_the_label_first(tmp_path, end):
    path = tmp_path / "x.txt"
    path.write_bytes(end.join(["1 a/1.png a/2.png", "0 a/1.png b/1.png"]).encode())
    assert triples(read_pair_list(path)) == [
        ("a/1.png", "a/2.png", True),
        ("a/1.png", "b/1.png", False),
    ]


def test_a_picture_called_1_does_not_turn_a_list_around(tmp_path):
    (tmp_path / "x.txt").write_text("1 2.png 0\n0 3.png 1\n")
    assert triples(read_pair_list(tmp_path / "x.txt")) == [
        ("1", "2.png", False),
        ("0", "3.png", True),
    ]


def two_lines(genuine, impostor):
    lines = []
    for k in range(genuine):
        lines += [f"g{k}_1.jpg {1 + k % 10}", f"g{k}_2.jpg {1 + k % 10}"]
    for k in range(impostor):
        lines += [f"i{k}_1.jpg\t0", f"i{k}_2.jpg\t0"]
    return lines


def test_calfw_deals_both_kinds_over_the_folds(tmp_path):
    (tmp_path / "pairs_CALFW.txt").write_text("\r\n".join(two_lines(30, 30)) + "\r\n")
    found = read_pair_list(tmp_path / "pairs_CALFW.txt")
    assert found.form == "CALFW or CPLFW pairs list"
    folds = contiguous_folds(60)
    for fold in range(10):
        mine = [pair for pair, k in zip(triples(found), folds, strict=True) if k == fold]
        expected = [(f"g{k}_1.jpg", f"g{k}_2.jpg", True) for k in range(3 * fold, 3 * fold + 3)]
        expected += [(f"i{k}_1.jpg", f"i{k}_2.jpg", False) for k in range(3 * fold, 3 * fold + 3)]
        assert mine == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (two_lines(2, 2)[:-1], "line 7: found 2 columns, 'i1_1.jpg 0'"),
        (["a.jpg 1", "b.jpg 0"], "line 2: found 2 columns, 'b.jpg 0'"),
        ([*two_lines(1, 1), "c.jpg"], "line 5: found 1 columns, 'c.jpg'"),
        ([*two_lines(1, 1), "c.jpg x", "d.jpg x"], "line 5: .*; 1 more lines do not fit"),
    ],
    ids=["odd number of lines", "labels that differ", "odd columns", "no number"],
)
def test_two_line_lists_that_do_not_fit(tmp_path, lines, message):
    (tmp_path / "x.txt").write_text("\n".join(lines))
    with pytest.raises(Sf2Error, match=message):
        read_pair_list(tmp_path / "x.txt")


@pytest.fixture
def cfp(tmp_path):
    """Two folds, two people with two frontal pictures and one profile each."""
    root = tmp_path / "cfp"
    split = root / "Protocol" / "Split"
    frontal = ["001/frontal/01", "001/frontal/02", "002/frontal/01", "002/frontal/02"]
    profile = ["001/profile/01", "002/profile/01"]
    for name, pictures in (("F", frontal), ("P", profile)):
        lines = [f"{k} ../Data/Images/{picture}.jpg" for k, picture in enumerate(pictures, 1)]
        split.mkdir(parents=True, exist_ok=True)
        (root / "Protocol" / f"Pair_list_{name}.txt").write_text("\n".join(lines) + "\n")
        for k, picture in enumerate(pictures):
            path = root / "Data" / "Images" / f"{picture}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(photo(k // 2, k)))
    pairs = {
        "FP": ((["1,1"], ["1,2"]), (["3,2"], ["4,1"])),
        "FF": ((["1,2"], ["1,3"]), (["3,4"], ["4,1"])),
    }
    for kind, folds in pairs.items():
        for number, (same, different) in enumerate(folds, 1):
            fold = split / kind / f"{number:02d}"
            fold.mkdir(parents=True)
            (fold / "same.txt").write_text("\r\n".join(same) + "\r\n")
            (fold / "diff.txt").write_text("\n".join(different))
    return root


def test_cfp(cfp):
    images = "Data/Images/"
    assert triples(read_cfp(cfp / "Protocol/Split/FP")) == [
        (f"{images}001/frontal/01.jpg", f"{images}001/profile/01.jpg", True),
        (f"{images}001/frontal/01.jpg", f"{images}002/profile/01.jpg", False),
        (f"{images}002/frontal/01.jpg", f"{images}002/profile/01.jpg", True),
        (f"{images}002/frontal/02.jpg", f"{images}001/profile/01.jpg", False),
    ]
    pairs = open_pair_list(cfp / "Protocol/Split/FF", cfp)
    assert (pairs.name, pairs.protocol, len(pairs.faces), pairs.genuine) == ("FF", "CFP FF", 4, 2)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Split/FP/01/same.txt", "1,9\n", r"same\.txt, line 1: found '1,9'"),
        ("Split/FP/02/diff.txt", "\n1;2\n", r"diff\.txt, line 2: found '1;2'"),
        ("Pair_list_P.txt", "one a.jpg\n", r"Pair_list_P\.txt, line 1: found 'one a\.jpg'"),
    ],
)
def test_cfp_lists_that_do_not_fit(cfp, file, text, message):
    (cfp / "Protocol" / file).write_text(text)
    with pytest.raises(Sf2Error, match=message):
        read_cfp(cfp / "Protocol/Split/FP")


def test_a_folder_that_is_not_cfps(cfp):
    with pytest.raises(Sf2Error, match="a folder, and not CFP's FP or FF"):
        open_pair_list(cfp / "Data", cfp)
    (cfp / "Protocol/Split/FP/01/same.txt").unlink()
    with pytest.raises(Sf2Error, match=r"same\.txt: cannot be read"):
        open_pair_list(cfp / "Protocol/Split/FP", cfp)
