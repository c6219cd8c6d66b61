"""Everything sf2 prints: messages and progress on standard error, results on standard output.

On a terminal progress is a rich bar that redraws itself; piped into a file it is a plain line
every few seconds, so that logs stay readable.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from sf2cli.columns import laid_out

PLAIN_INTERVAL_S = 5.0
# Columns of a terminal from which there is room for a long bar.
_WIDE = 100

# A path is shown as it is: rich would take ":b:" for an emoji and "[/a]" for a closing tag.
_AS_IT_IS: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
_err = Console(stderr=True, **_AS_IT_IS)
_quiet = False


def silence() -> None:
    """Print nothing but errors from here on: every rank but the first calls this."""
    global _quiet
    _quiet = True


def info(message: str) -> None:
    """One line for the user, on standard error."""
    if not _quiet:
        _err.print(message, soft_wrap=True)


def warn(message: str, *, all_ranks: bool = False) -> None:
    """One warning, on standard error; `all_ranks` for what only one of them may have seen."""
    if all_ranks or not _quiet:
        _err.print(f"warning: {message}", style="yellow", soft_wrap=True)


def error(message: str) -> None:
    """The last words of a failing command, on standard error."""
    _err.print(f"error: {message}", style="red", soft_wrap=True)


def result_json(value: Any) -> None:
    """The machine-readable result of a command, on standard output."""
    if not _quiet:
        print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def result_text(text: str) -> None:
    """A part of a command's result that is no table, on standard output."""
    if not _quiet:
        print(text, flush=True)


def result_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str] = (),
    *,
    aside: bool = False,
    keys: int = 1,
) -> None:
    """The result of a command as a table, on standard output, with notes below it.

    The first `keys` columns name the row and are left-aligned, the others are numbers. A table that
    is too wide continues below. One `aside` goes to standard error: standard output then belongs to
    JSON.
    """
    if _quiet:
        return
    stream = sys.stderr if aside else sys.stdout
    out = Console(file=stream, width=None if stream.isatty() else 120, **_AS_IT_IS)
    cells = [[str(cell) for cell in row] for row in rows]
    parts = laid_out(columns, cells, out.width, keys)
    for number, part in enumerate(parts):
        table = Table(
            title=title if number == 0 else None,
            title_justify="left",
            caption="\n".join(notes) or None if number == len(parts) - 1 else None,
            caption_justify="left",
        )
        for i, width in part:
            justify: JustifyMethod = "left" if i < keys else "right"
            table.add_column(columns[i], justify=justify, overflow="fold", width=width)
        for row in cells:
            table.add_row(*(row[i] for i, _ in part))
        out.print(table)


class Screen:
    """A text that replaces itself on a terminal; elsewhere it is printed once."""

    def __init__(self, live: Live | None) -> None:
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines to fill; 0 lines where there is no end to them."""
        if self._live is None:
            return 120, 0
        return self._live.console.width, self._live.console.height

    def show(self, text: str) -> None:
        """Show `text` in place of the last one."""
        if self._live:
            self._live.update(Text(text), refresh=True)
        else:
            result_text(text)

    def waiter(self, seconds: float) -> Callable[[], None] | None:
        """Waits so long between two texts; None where there will be one alone."""
        return (lambda: time.sleep(seconds)) if self._live else None


@contextmanager
def live_text() -> Iterator[Screen]:
    """A screen on standard output for the length of the block, which Ctrl-C ends in peace."""
    out = Console(**_AS_IT_IS)
    if not out.is_terminal:
        yield Screen(None)
        return
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False) as live:
        yield Screen(live)


class ProgressLine:
    """Progress over `total` steps; the fields given to `advance` stand beside the bar."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = 0
        self._started = time.monotonic()
        self._last_plain = self._started
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if not _quiet and _err.is_terminal:
            columns: list[ProgressColumn] = [TextColumn("{task.description}")]
            if total is None:
                columns += [TextColumn(f"{{task.completed}} {unit}"), TimeElapsedColumn()]
            else:
                bar = BarColumn(bar_width=24 if _err.width >= _WIDE else 8)
                columns += [bar, MofNCompleteColumn(), TimeElapsedColumn()]
                columns += [TextColumn("eta"), TimeRemainingColumn()]
            # What is too much for the line is cut from the note, not from the count and the times.
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            note = TextColumn("{task.fields[note]}", table_column=rest)
            self._bar = Progress(*columns, note, console=_err, expand=True)
            self._task = self._bar.add_task(description, total=total, note="")

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more steps done and show `fields` as `name value`."""
        self._done += n
        note = "  ".join(f"{key} {value}" for key, value in fields.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=n, note=note)
        elif not _quiet:
            now = time.monotonic()
            if now - self._last_plain >= PLAIN_INTERVAL_S or self._done == self._total:
                self._last_plain = now
                info(self._plain_line(now, note))

    def _plain_line(self, now: float, note: str) -> str:
        elapsed = now - self._started
        of = f"/{self._total}" if self._total is not None else ""
        line = f"{self._description}: {self._done}{of} {self._unit}  {elapsed:.0f} s"
        if self._total and 0 < self._done < self._total:
            line += f"  eta {elapsed / self._done * (self._total - self._done):.0f} s"
        return f"{line}  {note}" if note else line


@contextmanager
def progress(description: str, total: int | None, unit: str = "steps") -> Iterator[ProgressLine]:
    """A progress display for the length of the block."""
    line = ProgressLine(description, total, unit)
    if line._bar is None:
        yield line
    else:
        with line._bar:
            yield line
