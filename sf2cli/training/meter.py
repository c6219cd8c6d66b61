"""What is written down about every step."""

from __future__ import annotations

import math
import resource
import sys
from typing import Any

import torch
import torch.distributed as dist

from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.state import Head
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.probe import Probe, sum_of_squares

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Meter:
    """Measures an engine after its steps; collective, the same on every rank but for memory."""

    def __init__(self, engine: TrainingEngine, probe: Probe) -> None:
        self._engine = engine
        self._probe = probe

    def read(self) -> dict[str, float]:
        """The step's numbers by name; those that are not there or not finite are left out.

        `positive_similarity`, `negative_similarity`: mean cosines of features with the row of their
        own identity and with all others'. `positives_above`, `negatives_above`: the shares of them
        above the boundary r g(cos) + bias = 0. `scale`: r.
        `rejected`: samples the filter left out. `gradient_norm`, `weight_norm`: of the backbone,
        the gradient before any clipping. `memory_gib`: the first rank's peak, of the GPU where
        there is one.
        """
        values: dict[str, float | None] = {
            **_of_head(self._engine.head),
            "gradient_norm": self._probe.gradient_norm(),
            "weight_norm": self._weight_norm(),
            "memory_gib": _peak_bytes() / 2**30,
        }
        return {k: v for k, v in values.items() if v is not None and math.isfinite(v)}

    def _weight_norm(self) -> float:
        parts: list[Any] = list(self._engine.backbone.parameters())
        # ZeRO 3 leaves each rank a part of every parameter, padded with zeros.
        split = any(hasattr(part, "ds_tensor") for part in parts)
        squares = sum_of_squares([getattr(part, "ds_tensor", part) for part in parts])
        if split:
            dist.all_reduce(squares)
        return squares.sqrt().item()


def _of_head(head: Head) -> dict[str, float | None]:
    """What SphereFace2's pass counts; a softmax head has neither a bias nor a boundary."""
    if not isinstance(head, ShardedHead):
        return {}
    seen = head.similarities.take()
    return {
        "bias": head.bias.item(),
        "scale": head.hp.r,
        "positive_similarity": seen.positive,
        "negative_similarity": seen.negative,
        "positives_above": seen.positives_above,
        "negatives_above": seen.negatives_above,
        "rejected": float(seen.rejected) if head.reject_below else None,
    }


def _peak_bytes() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
