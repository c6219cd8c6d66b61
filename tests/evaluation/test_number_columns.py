"""Files of numbers, read a part at a time, against plain splitting."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation import number_columns
from sf2cli.evaluation.number_columns import read_numbers

LINES = ["1 2 0", "-3\t40  1", "", "  5 6 1 ", "1234567890123 8 0"]
EXPECTED = [[1, 2, 0], [-3, 40, 1], [5, 6, 1], [1234567890123, 8, 0]]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 24])
@pytest.mark.parametrize("last", ["", "end"])
def test_read_numbers(tmp_path, monkeypatch, end, chunk, last):
    monkeypatch.setattr(number_columns, "_CHUNK_BYTES", chunk)
    path = tmp_path / "x.txt"
    path.write_bytes((end.join(LINES) + (end if last else "")).encode())
    found = read_numbers(path, 3, "three numbers")
    assert found.dtype == np.int64
    assert found.tolist() == EXPECTED


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "x.txt").write_text("\n\n")
    assert read_numbers(tmp_path / "x.txt", 3, "three numbers").shape == (0, 3)


@pytest.mark.parametrize("chunk", [5, 1 << 24])
@pytest.mark.parametrize("bad", ["1 2", "1 2 3 4", "1 x 3", "1 2.5 3", "1 2-3 4", "1 - 2", "é 1 2"])
def test_the_first_line_that_does_not_fit_is_named(tmp_path, monkeypatch, bad, chunk):
    monkeypatch.setattr(number_columns, "_CHUNK_BYTES", chunk)
    path = tmp_path / "x.txt"
    path.write_bytes("\n".join(["1 2 3", "", bad, "4 5 6", "7 8"]).encode())
    with pytest.raises(Sf2Error, match=r"line 3: .*expected three numbers"):
        read_numbers(path, 3, "three numbers")


def test_a_line_too_long_and_one_too_short_are_not_taken_for_two(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3 4\n5 6\n")
    with pytest.raises(Sf2Error, match="line 1: found '1 2 3 4'"):
        read_numbers(tmp_path / "x.txt", 3, "three numbers")


def test_no_such_file(tmp_path):
    with pytest.raises(Sf2Error, match="cannot be read"):
        read_numbers(tmp_path / "none.txt", 3, "three numbers")
