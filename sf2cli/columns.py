"""How a table is laid out in a terminal: no word and no number is broken.

What is too wide continues below, with the leading columns, which name the rows, once more.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

# A cell's padding and the line to its left; and the line to the right of all.
_FRAME, _EDGE = 3, 1


def laid_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], room: int, keys: int
) -> list[list[tuple[int, int]]]:
    """The parts of a table, each with the number and the width of its columns.

    Headings are wrapped between words and cells of numbers not at all; names longer than a quarter
    of the room may be folded.

    Args:
        columns: headings.
        rows: cells, as many in each.
        room: characters in a line.
        keys: how many leading columns name a row.
    """
    whole = [max(map(_width, texts)) for texts in zip(columns, *rows, strict=True)]
    cells = [max(map(_width, texts), default=0) for texts in zip(*rows, strict=True)]
    least = [
        min(whole[i], room // 4)
        if i < keys
        else max(cells[i] if rows else 0, *map(cell_len, columns[i].split() or [""]))
        for i in range(len(columns))
    ]
    parts: list[list[int]] = [list(range(min(keys, len(columns))))]
    for i in range(keys, len(columns)):
        if len(parts[-1]) > keys and _spare(parts[-1], least, room) < least[i] + _FRAME:
            parts.append(list(range(keys)))
        parts[-1].append(i)
    return [_widened(part, least, whole, room) for part in parts]


def _spare(part: Sequence[int], widths: Sequence[int], room: int) -> int:
    return room - _EDGE - sum(widths[i] + _FRAME for i in part)


def _widened(
    part: Sequence[int], least: Sequence[int], whole: Sequence[int], room: int
) -> list[tuple[int, int]]:
    """The room that is left goes to the columns that want it, from the left."""
    spare, widths = max(0, _spare(part, least, room)), []
    for i in part:
        more = min(spare, whole[i] - least[i])
        spare -= more
        widths.append((i, least[i] + more))
    return widths


def _width(cell: str) -> int:
    """Of the longest of its lines."""
    return max(map(cell_len, cell.split("\n")))
