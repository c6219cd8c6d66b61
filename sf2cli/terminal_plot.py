"""Curves in characters, for a terminal without a browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

MARKS = "●○■□▲△◆◇"
_WIDTH, _HEIGHT = 60, 14


def plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
    *,
    log_x: bool = False,
    log_y: bool = False,
    width: int = _WIDTH,
    height: int = _HEIGHT,
) -> str:
    """Points, at least one, a mark for each curve, the last on top.

    Args:
        curves: (x, y) by the curve's name; above 0 on a log axis.
        title: the first line.
        show_x, show_y: write the ends of the axes.
        log_x, log_y: whether that axis is logarithmic.
        width, height: of the field of points, in characters.
    """
    points = [point for curve in curves.values() for point in curve]
    left, right = _ends([x for x, _ in points], log_x)
    low, high = _ends([y for _, y in points], log_y)
    grid = [[" "] * width for _ in range(height)]
    for mark, curve in zip(_cycle(len(curves)), curves.values(), strict=True):
        for x, y in curve:
            column = round(_place(x, left, right, log_x) * (width - 1))
            line = height - 1 - round(_place(y, low, high, log_y) * (height - 1))
            grid[line][column] = mark
    middle = math.sqrt(low * high) if log_y else (low + high) / 2
    labels = {0: show_y(high), height // 2: show_y(middle), height - 1: show_y(low)}
    margin = max(map(len, labels.values()))
    lines = [title]
    for number, cells in enumerate(grid):
        edge = "┤" if number in labels else "│"
        lines.append(f"{labels.get(number, ''):>{margin}} {edge}{''.join(cells).rstrip()}")
    lines.append(f"{'':>{margin}} └{'─' * width}")
    first, last = show_x(left), show_x(right)
    lines.append(f"{'':>{margin}}  {first}{last:>{width - len(first)}}")
    names = zip(_cycle(len(curves)), curves, strict=True)
    lines.append(f"{'':>{margin}}  " + "   ".join(f"{mark} {name}" for mark, name in names))
    return "\n".join(lines)


def _cycle(count: int) -> str:
    return (MARKS * (count // len(MARKS) + 1))[:count]


def _ends(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low < high:
        return low, high
    apart = abs(low) / 10 or 1.0
    return (low / 2, high * 2) if log else (low - apart, high + apart)


def _place(value: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
