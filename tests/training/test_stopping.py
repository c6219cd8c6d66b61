"""The second Ctrl-C ends a run at once, and says what becomes of the checkpoint."""

import os
import signal

import pytest
import torch

from sf2cli.training.stopping import StopRequest
from sf2cli.training.world import World


def test_a_second_ctrl_c_says_what_it_leaves():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(World(0, 1, torch.device("cpu"))):
        os.kill(os.getpid(), signal.SIGINT)
        # SLURM sends it again; only a person's second Ctrl-C does not wait.
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="second Ctrl-C, without waiting"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
