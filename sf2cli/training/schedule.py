"""The learning rate as a pure function of the step, for backbone and head alike."""

from __future__ import annotations

import math

from sf2cli.recipe import ScheduleRecipe


def lr_factor(schedule: ScheduleRecipe, step: int, total_steps: int) -> float:
    """What the base learning rate is multiplied by at optimiser step `step` (from 0).

    Warm-up rises linearly from 1/warmup_steps to 1; milestones and the cosine run over the whole
    length, warm-up included, so that a longer warm-up does not move a milestone.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.kind == "step":
        passed = sum(step >= round(point * total_steps) for point in schedule.milestones)
        return schedule.factor**passed
    after = max(1, total_steps - schedule.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - schedule.warmup_steps) / after))
