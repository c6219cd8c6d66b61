"""The same curves in characters, for a terminal without a browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

MARKS = "●○■□▲△◆◇"
_WIDTH, _HEIGHT = 60, 14


def log_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
) -> str:
    """Points of positive numbers on two log axes, a mark for each curve, the last on top.

    Args:
        show_x, show_y: write the ends of the axes.
    """
    points = [point for curve in curves.values() for point in curve]
    left, right = _ends([x for x, _ in points])
    low, high = _ends([y for _, y in points])
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for mark, curve in zip(_cycle(len(curves)), curves.values(), strict=True):
        for x, y in curve:
            column = round(_place(x, left, right) * (_WIDTH - 1))
            line = _HEIGHT - 1 - round(_place(y, low, high) * (_HEIGHT - 1))
            grid[line][column] = mark
    labels = {
        0: show_y(high),
        _HEIGHT // 2: show_y(math.sqrt(low * high)),
        _HEIGHT - 1: show_y(low),
    }
    margin = max(map(len, labels.values()))
    lines = [title]
    for number, cells in enumerate(grid):
        edge = "┤" if number in labels else "│"
        lines.append(f"{labels.get(number, ''):>{margin}} {edge}{''.join(cells).rstrip()}")
    lines.append(f"{'':>{margin}} └{'─' * _WIDTH}")
    first, last = show_x(left), show_x(right)
    lines.append(f"{'':>{margin}}  {first}{last:>{_WIDTH - len(first)}}")
    names = zip(_cycle(len(curves)), curves, strict=True)
    lines.append(f"{'':>{margin}}  " + "   ".join(f"{mark} {name}" for mark, name in names))
    return "\n".join(lines)


def _cycle(count: int) -> str:
    return (MARKS * (count // len(MARKS) + 1))[:count]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if low < high else (low / 2, high * 2)


def _place(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)
