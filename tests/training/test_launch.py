"""`--nproc`: a rank that ends takes the others with it, and what it said is shown."""

import signal
import sys
import time

import pytest

from sf2cli.training import launch

PROMPT_S = 30.0


@pytest.fixture
def ranks(tmp_path, monkeypatch):
    """Ranks that run a script in place of sf2: the first trains for ever, the second ends so."""

    def start(ending, beginning=":"):
        script = tmp_path / "rank"
        script.write_text(
            f'#!/bin/sh\n{beginning}\nif [ "$RANK" = 0 ]; then exec sleep 600; fi\n'
            f"sleep 0.2\n{ending}\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        began = time.monotonic()
        status = launch.launch_ranks(2, ["train"])
        # A hang, not slowness, is what would fail this.
        assert time.monotonic() - began < PROMPT_S
        return status

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (
            "echo 'error: no such image' >&2; echo '  Pack again.' >&2; exit 1",
            1,
            "error: rank 1 failed:\nno such image\n  Pack again.\n",
        ),
        ("kill -9 $$", 1, "error: rank 1 was killed by SIGKILL\n"),
        (
            "echo 'Traceback (most recent call last):' >&2; echo 'KeyError: 5' >&2; exit 1",
            1,
            "error: rank 1 failed:\nTraceback (most recent call last):\nKeyError: 5\n",
        ),
    ],
    ids=["mistake", "killed", "bug"],
)
def test_a_rank_that_ends_takes_the_others_down_and_its_error_comes_first(
    ending, status, said, ranks, capfd
):
    assert ranks(ending) == status
    assert capfd.readouterr().err.startswith(said)


def test_a_second_interrupt_that_no_rank_has_seen_is_told(ranks, capfd, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    saving = "trap '' TERM"
    assert ranks("kill -INT $PPID; sleep 0.2; kill -INT $PPID; exec sleep 600", saving) == 130
    assert capfd.readouterr().err == "error: interrupted, without waiting for a checkpoint\n"
