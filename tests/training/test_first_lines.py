"""What is told before the first step: more loader processes than cores, a slow precision."""

import pytest
import torch

from sf2cli.training import forward
from sf2cli.training.first_lines import crowding
from sf2cli.training.forward import slow_precision
from sf2cli.training.world import World


class Said(World):
    """A world in which each rank said so."""

    def __init__(self, *ranks):
        super().__init__(0, len(ranks), torch.device("cpu"))
        object.__setattr__(self, "said", [(host, set(cores)) for host, cores in ranks])

    def gather(self, value):
        return self.said


ALL = range(4)


@pytest.mark.parametrize(
    ("world", "workers", "told"),
    [
        (Said(("a", ALL)), 4, None),
        (Said(("a", ALL)), 5, "5 processes a rank where there are 4 cores;"),
        (Said(("a", ALL), ("a", ALL)), 2, None),
        (
            Said(("a", ALL), ("a", ALL)),
            3,
            "3 processes a rank, 6 for the 2 ranks on a, where there are 4 cores;",
        ),
        # Cores of its own for each rank.
        (Said(("a", (0, 1)), ("a", (2, 3))), 2, None),
        (Said(("a", ALL), ("b", ALL)), 4, None),
        (Said(("a", ALL), ("b", (0, 1)), ("b", (0, 1))), 2, "4 for the 2 ranks on b, where"),
        (Said(("a", (0,)), ("a", (0,))), 0, None),
    ],
)
def test_more_loader_processes_than_cores(world, workers, told):
    said = crowding(world, workers)
    assert (said is None) == (told is None)
    assert said is None or told in said


@pytest.mark.parametrize(
    ("precision", "times", "told"),
    [
        ("bf16", 9.96, "precision bf16: matrix products take 9.96 times as long as in fp32"),
        ("fp16", 2.0, "precision fp16: matrix products take 2 times as long"),
        ("bf16", 1.1, None),
        ("fp32", 9.0, None),
    ],
)
def test_a_precision_that_the_machine_is_slow_at(monkeypatch, precision, times, told):
    monkeypatch.setattr(forward, "slowdown", lambda dtype, device: times)
    said = slow_precision(precision, torch.device("cpu"))
    assert (said is None) == (told is None)
    assert said is None or said.startswith(told)
