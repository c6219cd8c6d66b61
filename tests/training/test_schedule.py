import pytest

from sf2cli.recipe import ScheduleRecipe
from sf2cli.training.schedule import lr_factor


def test_step_schedule_drops_at_the_papers_milestones():
    schedule = ScheduleRecipe(kind="step", steps=100_000, milestones=[0.5, 0.78, 0.94])
    at = [lr_factor(schedule, step, 100_000) for step in (0, 49_999, 50_000, 78_000, 94_000)]
    assert at == pytest.approx([1, 1, 0.1, 0.01, 0.001])


def test_cosine_falls_from_one_to_almost_zero():
    schedule = ScheduleRecipe(kind="cosine", steps=100)
    factors = [lr_factor(schedule, step, 100) for step in range(100)]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)
    assert factors[50] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-3


def test_warmup_rises_linearly_to_the_full_rate():
    schedule = ScheduleRecipe(kind="cosine", steps=10, warmup_steps=4)
    factors = [lr_factor(schedule, step, 10) for step in range(5)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_a_warmup_as_long_as_the_run_is_allowed():
    schedule = ScheduleRecipe(kind="cosine", steps=4, warmup_steps=4)
    assert lr_factor(schedule, 3, 4) == 1
