"""Curves as SVG, drawn by hand: a page of a dozen takes milliseconds, which matplotlib does not."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

# Apart for the colour-blind too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#777777")
_WIDTH, _HEIGHT = 540.0, 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 10.0, 40.0
_MARKED = 30


def svg_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]], title: str, *, log: bool = False
) -> str:
    """An <svg> element with the curves in the order of COLOURS.

    Args:
        curves: (step, value) by name, at least one point each; values above 0 if `log`.
        title: for readers that do not see it.
        log: whether values stand on a logarithmic axis.
    """
    points = [point for curve in curves.values() for point in curve]
    x_axis = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, log=False, whole=True)
    y_axis = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, log=log)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{html.escape(title)}"'
        ' font-size="13" fill="#5b6470">'
    ]
    for value in y_axis.ticks:
        y, written = y_axis.place(value), y_axis.write(value)
        parts.append(
            f'<path d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}" stroke="#d0d4da"/>'
            f'<text x="{_LEFT - 8:g}" y="{y + 4.5:.1f}" text-anchor="end">{written}</text>'
        )
    for value in x_axis.ticks:
        parts.append(
            f'<text x="{x_axis.place(value):.1f}" y="{_HEIGHT - _BOTTOM + 18:g}"'
            f' text-anchor="middle">{x_axis.write(value)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 4:g}"'
        ' text-anchor="middle">step</text>'
    )
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(x_axis.place(x), y_axis.place(y)) for x, y in curve]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(
            f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-linejoin="round"><title>{html.escape(name)}</title></path>'
        )
        if len(placed) < _MARKED:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed
            ]
    return "".join(parts) + "</svg>"


class _Axis:
    """Where values stand between two ends of the picture, and which of them are written."""

    def __init__(
        self, values: Sequence[float], start: float, stop: float, *, log: bool, whole: bool = False
    ) -> None:
        self._start, self._stop = start, stop
        self._scale = math.log10 if log else float
        low, high = self._scale(min(values)), self._scale(max(values))
        if low == high:
            apart = 0.3 if log else abs(low) / 10 or 1.0
            low, high = low - apart, high + apart
        elif not whole:
            low, high = low - (high - low) * 0.04, high + (high - low) * 0.04
        self._low, self._high = low, high
        self.ticks = _log_ticks(low, high) if log else _ticks(low, high, whole)

    def write(self, tick: float) -> str:
        """A tick with as many digits as tell it from its neighbours."""
        if self._scale is math.log10 or len(self.ticks) < 2:
            return f"{tick:.3g}"
        step = self.ticks[1] - self.ticks[0]
        return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"

    def place(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)


def _ticks(low: float, high: float, whole: bool) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about five of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and their double and fivefold where those alone would be too few."""
    factors = (1, 2, 5) if high - low < 2 else (1,)
    every = max(1, round((high - low) / 6)) if high - low >= 2 else 1
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [m * 10.0**e for e in decades if e % every == 0 for m in factors]
    inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return inside if len(inside) > 1 else [10**low, 10**high]
