"""Curves in characters."""

import pytest

from sf2cli.terminal_plot import plot


def test_a_plot_in_characters():
    text = plot(
        {"a": [(1, 1), (100, 100)], "b": [(10, 10)]},
        "title",
        "{:g}".format,
        "{:g}s".format,
        log_x=True,
        log_y=True,
    )
    lines = text.splitlines()
    assert lines[0] == "title"
    assert lines[1].startswith("100s ┤")
    assert lines[1].endswith("●")
    assert lines[-4].startswith("  1s ┤●")
    middle = next(i for i, line in enumerate(lines) if "○" in line)
    assert lines[middle].index("○") == pytest.approx((len(lines[1]) + 5) / 2, abs=1)
    assert lines[-2].split() == ["1", "100"]
    assert lines[-1].split() == ["●", "a", "○", "b"]


@pytest.mark.parametrize("log", [True, False])
def test_a_plot_of_one_point(log):
    text = plot({"a": [(5, 5)]}, "title", str, str, log_x=log, log_y=log)
    assert text.count("●") == 2


def test_a_linear_plot_of_any_size():
    text = plot({"a": [(0, -1), (5, 0), (10, 1)]}, "title", str, str, width=11, height=5)
    assert [line.count("●") for line in text.splitlines()] == [0, 1, 0, 1, 0, 1, 0, 0, 1]
    assert text.splitlines()[3] == "0.0 ┤     ●"
