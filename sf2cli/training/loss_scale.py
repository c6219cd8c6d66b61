"""The loss scale of fp16, by DeepSpeed's rules: halved when a gradient overflows, doubled when
none has for a while. Other precisions need none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class LossScale:
    """The factor on the backbone's backward pass.

    Attributes:
        skipped: how many steps were left out in this run, a gradient not being finite.
        skipped_in_a_row: of them, those since the last good step.

    Args:
        fp16: the section of a filled ds.json.
    """

    def __init__(self, fp16: dict[str, Any]) -> None:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler

        self.skipped = 0
        self.skipped_in_a_row = 0
        fixed = float(fp16.get("loss_scale", 0)) if fp16["enabled"] else 1.0
        if fixed:
            self._scaler: Any = LossScaler(fixed)
        else:
            self._scaler = DynamicLossScaler(
                init_scale=2.0 ** fp16.get("initial_scale_power", 16),
                scale_window=fp16.get("loss_scale_window", 1000),
                min_scale=float(fp16.get("min_loss_scale", 1)),
                delayed_shift=fp16.get("hysteresis", 2),
                consecutive_hysteresis=fp16.get("consecutive_hysteresis", False),
                # The run is ended with a diagnosis instead; see `TrainingEngine`.
                raise_error_at_min_scale=False,
            )

    @property
    def value(self) -> float:
        """What the loss is multiplied by now."""
        return float(self._scaler.cur_scale)

    def update(self, finite: bool) -> None:
        """Take note of a step: whether the gradients were finite, and so taken."""
        self._scaler.update_scale(not finite)
        self.skipped += not finite
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1

    def state(self) -> Tensor:
        """What a checkpoint has to keep: float64 [6]."""
        kept = [float(getattr(self._scaler, name, 0)) for name in _STATE]
        return torch.tensor([*kept, self.skipped, self.skipped_in_a_row], dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """Go on as the one that `state` was taken of. A fixed scale stays as ds.json says."""
        *kept, skipped, in_a_row = state.tolist()
        if self._scaler.dynamic:
            for name, value in zip(_STATE, kept, strict=True):
                setattr(self._scaler, name, value if name == "cur_scale" else int(value))
        self.skipped, self.skipped_in_a_row = int(skipped), int(in_a_row)
