"""The one exception a user sees: a message that names the thing, and what to do about it."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

# difflib's ratio: lam and lambda have 0.67, margin and variant 0.62.
_ALIKE = 0.65
_LINE = 200


class Sf2Error(Exception):
    """A failure the user can act on; `sf2` prints it without a traceback and exits `status`.

    Args:
        message: what was found where, and what was expected.
        remedy: what to change or run; printed on its own line.
    """

    status = 1

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class DamagedError(Sf2Error):
    """A file is not what was written: gone, cut short, changed or another one's."""


def why(failure: Exception) -> str:
    """Why a file cannot be read, without the number and the path that Python puts around it."""
    if isinstance(failure, UnicodeDecodeError):
        return "not UTF-8 text"
    return (isinstance(failure, OSError) and failure.strerror) or str(failure)


def in_short(failure: Exception) -> str:
    """What a library says of a failure, in one line and cut between two words."""
    said = " ".join(str(failure).split())
    short = textwrap.shorten(said, _LINE, placeholder=" ...")
    # A path may be longer than a line: half of it says more than what stands before it.
    return short if len(short) > _LINE // 2 or short == said else f"{said[: _LINE - 4]} ..."


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`; did you mean X?` for the name that `word` is likely a slip of, "" where there is none.

    Of dotted names those of the same section are compared, but first the one that a section was
    forgotten or made up for: `optimizer.lrr` and `lr` are likely `optimizer.lr`.
    """
    others = sorted(set(names) - {word})
    section, _, end = word.rpartition(".")
    ends = {name: name.rpartition(".")[2] for name in others}
    alike = [name for name in others if ends[name] == end and (name == end or not section)]
    if len(alike) != 1:
        here = {ends[name]: name for name in others if name.rpartition(".")[0] == section}
        alike = [here[near] for near in difflib.get_close_matches(end, here, 1, _ALIKE)]
    return f"; did you mean {alike[0]}?" if alike else ""
