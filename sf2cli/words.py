"""Words that agree with a number."""

from __future__ import annotations


def are(count: int) -> str:
    """`is` of one, `are` of any other number."""
    return "is" if count == 1 else "are"


def have(count: int) -> str:
    """`has` of one, `have` of any other number."""
    return "has" if count == 1 else "have"


def count_of(count: int, one: str) -> str:
    """A number and a word, in the plural unless it is 1: `1 image`, `2,000 images`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"
