import pytest

from sf2cli.scaling.units import (
    parse_bytes,
    parse_count,
    parse_counts,
    show_bytes,
    show_count,
    show_seconds,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("23GB", 23 * 10**9),
        ("21.5GiB", 21.5 * 2**30),
        ("800 mb", 800 * 10**6),
        ("4k", 4000),
        ("17", 17),
    ],
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "23 apples", "-1GB", "0", "1e400GB", "23GBB", "nan"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected a size such as 23GB"):
        parse_bytes(text)


def test_counts():
    assert parse_counts("100, 100k,4M") == [100, 100_000, 4_000_000]


@pytest.mark.parametrize(
    "text", ["0", "-5", "ten", "", "1.5M", "10^12", "99999999999999999999", "1,"]
)
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match="expected whole numbers"):
        parse_counts(text)
    if "," not in text:
        with pytest.raises(ValueError, match="found"):
            parse_count(text)


def test_shown_as_people_write():
    assert [show_bytes(n) for n in (512, 1536, 3 * 2**20, 1.5 * 2**30, 2000 * 2**40)] == [
        "512 B",
        "1.5 KiB",
        "3 MiB",
        "1.5 GiB",
        "2,000 TiB",
    ]
    assert show_bytes(1000 * 2**20) == "1,000 MiB"
    assert [show_seconds(s) for s in (2e-5, 0.0034, 1.25, 12345)] == [
        "20 us",
        "3.4 ms",
        "1.25 s",
        "12,345 s",
    ]
    assert [show_count(n) for n in (999, 100_000, 4_000_000, 1_500_000, 1234)] == [
        "999",
        "100k",
        "4M",
        "1.5M",
        "1,234",
    ]
