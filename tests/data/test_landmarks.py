import json

import numpy as np
import pytest

from sf2cli.data.landmarks import load_landmarks
from sf2cli.errors import Sf2Error

NUMBERS = [38.5, 51, 73, 51, 56, 71, 41, 92, 70, 92]
POINTS = np.array(NUMBERS).reshape(5, 2)


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [
        ("a.csv", "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n", ","),
        ("a.csv", "", ","),
        ("a.csv", "\ufeff", ","),
        ("a.tsv", "", "\t"),
        ("a.txt", "", " "),
        # CelebA's: how many there are, then the columns.
        ("a.txt", "2\nlefteye_x lefteye_y righteye_x\n", "  "),
    ],
)
@pytest.mark.parametrize("score", [[], [0.99]])
def test_lines(tmp_path, name, head, mark, score):
    lines = [mark.join(map(str, ["./anna/1.jpg", *NUMBERS, *score])), "bo/2.jpg", ""]
    (tmp_path / name).write_text(head + "\n".join(lines), encoding="utf-8")
    found = load_landmarks(tmp_path / name)
    assert len(found) == 2
    assert np.array_equal(found.find("anna/1.jpg"), POINTS)
    assert found.find("bo/2.jpg") is None
    assert found.find("carl/3.jpg") is None
    assert np.array_equal(found.find("carl/3.jpg", "anna/1.jpg"), POINTS)


def test_json(tmp_path):
    tree = {"a.jpg": POINTS.tolist(), "b.jpg": NUMBERS, "c.jpg": None, "d.jpg": []}
    (tmp_path / "a.json").write_text(json.dumps(tree))
    found = load_landmarks(tmp_path / "a.json")
    assert np.array_equal(found.find("a.jpg"), POINTS)
    assert np.array_equal(found.find("b.jpg"), POINTS)
    assert found.find("c.jpg") is None
    assert found.find("d.jpg") is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a.jpg,1,2,3\n", "line 1: expected ten numbers"),
        ("a.csv", "a.jpg" + ",1" * 10 + "\nb.jpg" + ",1" * 9 + ",x\n", "line 2: expected ten"),
        ("a.csv", "a.jpg" + ",1" * 9 + ",nan\n", "line 1: expected ten numbers"),
        ("a.csv", "", "no landmarks in it"),
        ("a.json", "[1]", "expected paths with landmarks, found list"),
        ("a.json", "{", "no landmarks \\("),
        ("a.json", '{"a.jpg": 5}', "'a.jpg': expected ten numbers"),
        ("a.json", '{"a.jpg": [[1, 2], [3, null]]}', "'a.jpg': expected ten numbers"),
        ("a.json", "[" * 100_000, "no landmarks \\("),
    ],
)
def test_mistakes(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(Sf2Error, match=message):
        load_landmarks(tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(Sf2Error, match=r"--align .*none\.csv: cannot be read \(No such file"):
        load_landmarks(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00,")
    with pytest.raises(Sf2Error, match="no landmarks"):
        load_landmarks(tmp_path / "bytes.csv")
