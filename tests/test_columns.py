"""Tables in a narrow terminal."""

from sf2cli.columns import laid_out

COLUMNS = ("identities", "head", "step", "ids x samples/s", "loss, one batch")
ROWS = [["100k", "sphereface2 fp32", "1.06 ms", "1.51e+07", "41.2 to 40.9"]] * 2


def width(part):
    return 1 + sum(width + 3 for _, width in part)


def test_what_fits_is_as_wide_as_its_longest_text():
    (part,) = laid_out(COLUMNS, ROWS, 120, 2)
    assert part == [(0, 10), (1, 16), (2, 7), (3, 15), (4, 15)]


def test_a_cell_of_two_lines_is_as_wide_as_the_longer_one():
    (part,) = laid_out(("loss", "EER"), [["ours", "9.12 ± 0.30\n+0.60 (+0.21, +0.99)*"]], 80, 1)
    assert part == [(0, 4), (1, 21)]


def test_headings_are_wrapped_between_words_before_a_table_is_cut():
    (part,) = laid_out(COLUMNS, ROWS, 72, 2)
    assert width(part) <= 72
    assert dict(part)[3] >= len("samples/s")
    assert dict(part)[4] >= len("41.2 to 40.9")


def test_what_is_too_wide_goes_on_below_with_the_names_of_the_rows():
    parts = laid_out(COLUMNS, ROWS, 60, 2)
    assert [[i for i, _ in part] for part in parts] == [[0, 1, 2, 3], [0, 1, 4]]
    for part in parts:
        assert width(part) <= 60
        widths = dict(part)
        assert all(widths[i] >= len(ROWS[0][i]) for i in widths if i >= 2)
    assert dict(parts[0])[3] >= len("samples/s")


def test_a_long_path_takes_what_the_numbers_leave():
    (part,) = laid_out(("set", "images"), [["x" * 90, "1,000"]], 80, 1)
    assert (width(part), part[1]) == (80, (1, 6))


def test_no_rows():
    assert laid_out(("what", "found"), [], 80, 1) == [[(0, 4), (1, 5)]]
