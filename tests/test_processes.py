"""Ctrl-C while a library is imported ends the process as it ends a command."""

import signal
import subprocess
import sys

IMPORT = """
import os, signal
from sf2cli.processes import ended_by_ctrl_c
{earlier}
before = signal.getsignal(signal.SIGINT)
with ended_by_ctrl_c():
    {meanwhile}
assert signal.getsignal(signal.SIGINT) is before
print("imported")
"""


def imported(meanwhile, earlier=""):
    line = [sys.executable, "-c", IMPORT.format(meanwhile=meanwhile, earlier=earlier)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_ctrl_c_within_an_import_ends_the_process():
    assert imported(f"os.kill(os.getpid(), {signal.SIGINT:d})") == (130, "", "error: interrupted\n")
    held = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\nos.kill(os.getpid(), 2)"
    assert imported("pass", held) == (130, "", "error: interrupted\n")
    assert imported("pass") == (0, "imported\n", "")


def test_a_ctrl_c_that_is_ignored_stays_so():
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    sent = f"os.kill(os.getpid(), {signal.SIGINT:d})"
    assert imported(sent, ignored) == (0, "imported\n", "")
