"""What changes in a head over a run is a function of the step and of the length it began with."""

import pytest

from sf2cli.heads.sharded import ShardedHead
from sf2cli.recipe import Recipe
from sf2cli.training.head import HeadSchedule, head_settings


def recipe(steps, head):
    return Recipe.model_validate(
        {
            "name": "t",
            "data": {"shards": "s"},
            "backbone": {"name": "sfnet4", "embedding_size": 4},
            "schedule": {"steps": steps},
            "head": head,
        }
    )


@pytest.mark.parametrize("steps", [10, 40], ids=["as begun", "made longer"])
def test_curriculum_and_filter_keep_the_steps_they_began_with(steps):
    said = recipe(steps, {"curriculum": {"r": 20, "m": 0.2}, "filter": {"below": 0.1}})
    schedule = HeadSchedule(said, planned_steps=10)
    head = ShardedHead(3, 4, schedule.loss(0))
    seen = []
    for taken in range(steps):
        schedule.apply(head, taken)
        seen.append((head.hp.r, round(head.hp.m, 3), head.reject_below))
    first = [(20, 0.2, 0.0), (25, 0.25, 0.0), (30, 0.3, 0.0), (35, 0.35, 0.0), (40, 0.4, 0.0)]
    assert seen == [*first, *[(40, 0.4, 0.1)] * (steps - 5)]
    assert str(schedule) == "r 20 to 40 and m 0.2 to 0.4 over 4 steps"


def test_a_head_without_a_curriculum_stays_as_it_is():
    said = recipe(10, {"curriculum": None})
    schedule = HeadSchedule(said, planned_steps=10)
    assert schedule.loss(0) == schedule.loss(9) == head_settings(said)
    assert str(schedule) == ""
    assert HeadSchedule(recipe(10, {"loss": "normface"}), 10).loss(0) is None
