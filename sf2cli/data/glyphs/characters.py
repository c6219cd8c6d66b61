"""Which characters: alphabets by name, and ranges of code points."""

from __future__ import annotations

import re
from collections.abc import Callable

from sf2cli.errors import Sf2Error

_RANGE = re.compile(r"(?:U\+)?([0-9A-F]{4,6})(?:-(?:U\+)?([0-9A-F]{4,6}))?", re.IGNORECASE)
_LAST = 0x10FFFF


def _letters(first: int, last: int) -> list[int]:
    return [code for code in range(first, last + 1) if chr(code).isalpha()]


def _jis_kanji() -> list[int]:
    """The 6,356 Han characters of JIS X 0208: all that ISO-2022-JP can write."""
    return [code for code in range(0x4E00, 0xA000) if chr(code).encode("iso2022_jp", "ignore")]


ALPHABETS: dict[str, Callable[[], list[int]]] = {
    "latin": lambda: _letters(0x41, 0x5A) + _letters(0x61, 0x7A),
    "greek": lambda: _letters(0x391, 0x3C9),
    "cyrillic": lambda: _letters(0x410, 0x44F),
    "jis-kanji": _jis_kanji,
}


def code_points(written: str) -> list[int]:
    """The code points of alphabets and ranges, ascending: `latin,U+0391-03A9`.

    Raises:
        Sf2Error: a word that is neither.
    """
    found: set[int] = set()
    for word in written.split(","):
        match = _RANGE.fullmatch(word.strip())
        if word.strip() in ALPHABETS:
            found.update(ALPHABETS[word.strip()]())
        elif match and int(match[1], 16) <= int(match[2] or match[1], 16) <= _LAST:
            found.update(range(int(match[1], 16), int(match[2] or match[1], 16) + 1))
        else:
            raise Sf2Error(
                f"SOURCE fonts: characters: {word.strip()!r} is neither an alphabet nor a range",
                f"Alphabets: {', '.join(ALPHABETS)}; a range: U+4E00-9FFF.",
            )
    return sorted(found)


def character_name(code: int) -> str:
    """The identity's name, `U+5B57`."""
    return f"U+{code:04X}"
