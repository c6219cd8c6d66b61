"""metrics.jsonl as curves: which there are, what they are called, and on what axis they belong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

Curve = list[tuple[float, float]]
"""(step, value), by rising step."""

VALIDATION = "validation/"
COLLAPSED = "collapsed"
"""1 at the step at which `collapse` told of it, 0 where the run went on with a remedy."""


@dataclass(frozen=True)
class Panel:
    """Curves that are looked at together, by their names; `log` for a logarithmic axis."""

    title: str
    curves: Mapping[str, Curve]
    log: bool = False


# Title, whether its axis is logarithmic, and the fields by what they are called.
_PANELS: list[tuple[str, bool, dict[str, str]]] = [
    ("loss", True, {"loss": "loss"}),
    (
        "similarity (mean cosine)",
        False,
        {"to the own identity": "positive_similarity", "to all others": "negative_similarity"},
    ),
    (
        "share above the boundary",
        True,
        {"of positives": "positives_above", "of negatives": "negatives_above"},
    ),
    ("bias", False, {"bias": "bias"}),
    ("backbone norms", True, {"gradient": "gradient_norm", "weights": "weight_norm"}),
    ("learning rate", False, {"learning rate": "lr"}),
    ("images a second", False, {"images/s": "images_per_s"}),
    ("share of the time waiting for data", False, {"data wait": "data_wait"}),
    ("peak memory of the first rank, GiB", False, {"memory": "memory_gib"}),
]


class Metrics:
    """Reads a metrics.jsonl that may be written to; each call of `read` takes what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._read = 0
        self.curves: dict[str, Curve] = {}

    def read(self) -> None:
        """Add the new lines to `curves`, by field; a file that was cut is read anew.

        Raises:
            OSError: it cannot be read.
        """
        if self._path.stat().st_size < self._read:
            self._forget()
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            step = values.pop("step")
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self.curves.setdefault(name, []).append((step, value))


def collapsed_at(curves: Mapping[str, Curve]) -> float | None:
    """The step by which the run had collapsed; None where it has not, or has gone on otherwise."""
    step, found = curves.get(COLLAPSED, [(0, 0.0)])[-1]
    return step if found else None


def panels(curves: Mapping[str, Curve]) -> list[Panel]:
    """The panels that have something to show, what is looked at first first."""
    found = []
    for title, log, fields in (*_PANELS[:2], *_validation(curves), *_PANELS[2:]):
        shown = {
            name: [(x, y) for x, y in curves.get(field, []) if y > 0 or not log]
            for name, field in fields.items()
        }
        shown = {name: curve for name, curve in shown.items() if curve}
        if shown:
            found.append(Panel(title, shown, log))
    return found


def _validation(curves: Mapping[str, Curve]) -> list[tuple[str, bool, dict[str, str]]]:
    """A panel for each metric, with a curve for each set; fields are validation/SET/METRIC."""
    metrics: dict[str, dict[str, str]] = {}
    for field in curves:
        if field.startswith(VALIDATION):
            name, _, metric = field.removeprefix(VALIDATION).rpartition("/")
            # validation/METRIC is the mean over the sets.
            metrics.setdefault(metric, {})[name or "mean"] = field
    for sets in metrics.values():
        if len(sets) == 2:
            sets.pop("mean", None)
    named = {"eer": "EER", "auc": "AUC"}
    return [(f"validation: {named.get(m, m)}", False, sets) for m, sets in metrics.items()]


def thinned(curve: Sequence[tuple[float, float]], points: int) -> Curve:
    """At most so many points: the means of runs of neighbours; the last point is kept as it is."""
    if len(curve) <= points:
        return list(curve)
    ends = [round(i * (len(curve) - 1) / (points - 1)) for i in range(points)]
    means = []
    for first, last in pairwise(ends):
        part = curve[first:last]
        means.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return [*means, curve[-1]]
