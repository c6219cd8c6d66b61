"""The one exception a user sees: a message that names the thing, and what to do about it."""

from __future__ import annotations


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
