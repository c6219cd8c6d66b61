"""Numbers as people write and read them: bytes, counts of identities, seconds."""

from __future__ import annotations

import re

_BYTES = {"": 1, "b": 1}
for _power, _prefix in enumerate("kmgt", start=1):
    _BYTES[_prefix] = _BYTES[f"{_prefix}b"] = 1000**_power
    _BYTES[f"{_prefix}ib"] = 1024**_power
_COUNTS = {"": 1, "k": 1000, "m": 1000**2}
_LARGEST_COUNT = 2**63 - 1


def parse_bytes(text: str) -> int:
    """Bytes of "23GB" (10^9), "21.5GiB" (2^30), "800MB" or a plain number.

    Raises:
        ValueError: not such a size, or 0.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]{0,3})", text.strip().lower())
    size = int(float(match[1]) * _BYTES[match[2]]) if match and match[2] in _BYTES else 0
    if size < 1:
        raise ValueError(f"expected a size such as 23GB or 21.5GiB, found {text!r}")
    return size


def parse_count(text: str) -> int:
    """A number of identities: "1000000", "100k" or "4M".

    Raises:
        ValueError: not such a number, below 1, or beyond 64 bits.
    """
    match = re.fullmatch(r"(\d{1,19})([km]?)", text.strip().lower())
    count = int(match[1]) * _COUNTS[match[2]] if match else 0
    if not 1 <= count <= _LARGEST_COUNT:
        raise ValueError(
            f"expected whole numbers of 1 or more, such as 100000, 100k or 4M, found {text!r}"
        )
    return count


def parse_counts(text: str) -> list[int]:
    """Several numbers of identities with commas between them.

    Raises:
        ValueError: one of them is none.
    """
    return [parse_count(part) for part in text.split(",")]


def show_bytes(size: float) -> str:
    """A size to three digits in the unit that suits it, powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{_digits(size)} {unit}"
        size /= 1024
    return f"{_digits(size)} TiB"


def show_seconds(seconds: float) -> str:
    """A duration to three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} us"


def show_count(count: int) -> str:
    """A number of identities, short where it is round: 100k, 4M, else with commas."""
    for name, size in (("M", 1000**2), ("k", 1000)):
        if count >= size and count * 10 % size == 0:
            return f"{count / size:,g}{name}"
    return f"{count:,}"


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"
