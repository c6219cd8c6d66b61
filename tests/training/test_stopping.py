"""Ctrl-C ends a run that is stopping at once, and says what becomes of the checkpoint."""

import os
import signal

import pytest
import torch

from sf2cli.training.stopping import StopRequest
from sf2cli.training.world import World


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (signal.SIGINT, "ended at a second Ctrl-C, without waiting"),
        (signal.SIGTERM, "ended at Ctrl-C after SIGTERM, without waiting"),
    ],
)
def test_ctrl_c_after_a_signal_says_what_it_leaves(first, said):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(World(0, 1, torch.device("cpu"))):
        os.kill(os.getpid(), first)
        # SLURM sends it again; only a person's Ctrl-C does not wait.
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match=said):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
