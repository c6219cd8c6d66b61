"""Three hosts on one machine: network namespaces on a bridge, one of them cut off in mid-run.

`pytest tests/training/test_many_hosts.py -m slow -s` prints how long the others took.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.small import losses_of, write_place

HOSTS, GIVE_UP_S, WITHIN_S, DEADLINE_S = 3, 20, 60, 240
NET = f"sf2n{os.getpid() % 100_000}"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """Namespaces NAME-0, ... with an interface `eth0` each, 10.77.0.1 and so on, on one bridge."""

    def __init__(self):
        ip("link", "add", NET, "type", "bridge")
        ip("link", "set", NET, "up")
        for host in range(HOSTS):
            ip("netns", "add", f"{NET}-{host}")
            ip("link", "add", f"{NET}v{host}", "type", "veth", "peer", "name", f"{NET}p{host}")
            ip("link", "set", f"{NET}v{host}", "master", NET)
            ip("link", "set", f"{NET}v{host}", "up")
            ip("link", "set", f"{NET}p{host}", "netns", f"{NET}-{host}", "name", "eth0")
            self._within(host, "addr", "add", f"10.77.0.{host + 1}/24", "dev", "eth0")
            self._within(host, "link", "set", "lo", "up")
            self._within(host, "link", "set", "eth0", "up")

    def _within(self, host, *words):
        ip("-n", f"{NET}-{host}", *words)

    def cut_off(self, host):
        self._within(host, "link", "set", "eth0", "down")

    @staticmethod
    def remove():
        for host in range(HOSTS):
            subprocess.run(["ip", "netns", "del", f"{NET}-{host}"], capture_output=True)
        subprocess.run(["ip", "link", "del", NET], capture_output=True)


@pytest.fixture
def network():
    try:
        made = Network()
    except (OSError, subprocess.CalledProcessError) as failure:
        Network.remove()
        pytest.skip(f"no rights to make network namespaces: {getattr(failure, 'stderr', failure)}")
    yield made
    Network.remove()


class Host:
    """torchrun with one rank in a namespace."""

    def __init__(self, host, place, name):
        self.said = place / f"host-{host}.err"
        programs = Path(sys.executable).parent
        self.process = subprocess.Popen(
            [
                *("ip", "netns", "exec", f"{NET}-{host}", str(programs / "torchrun")),
                *("--nnodes", f"1:{HOSTS}", "--nproc-per-node", "1", "--max-restarts", "3"),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", "10.77.0.1:29400"),
                *("--rdzv-id", name, "--rdzv-conf", f"is_host={int(host == 0)}"),
                *("--local-addr", f"10.77.0.{host + 1}", "--no-python", str(programs / "sf2")),
                *("train", "recipe.yaml", "--deepspeed", "ds.json", "--out", name, "--resume"),
                *("--timeout", str(GIVE_UP_S), "--set", "schedule.steps=1000000"),
                *("--set", "checkpoint.every_steps=20", "--set", "batch_size=6"),
            ],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=self.said.open("w"),
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"},
            start_new_session=True,
        )

    def has_said(self, text):
        return text in self.said.read_text()

    def stop(self):
        # torchrun puts its ranks into sessions of their own, and ends them on SIGTERM.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_until(reached, hosts, what, seconds=DEADLINE_S):
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < seconds, what + "\n".join(
            f"\n--- host {i}:\n{host.said.read_text()[-3000:]}" for i, host in enumerate(hosts)
        )
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.slow
def test_the_hosts_that_are_left_stop_and_go_on_from_the_last_checkpoint(network, tmp_path):
    place = write_place(tmp_path)
    run = place / "elastic"
    hosts = [Host(host, place, "elastic") for host in range(HOSTS)]
    try:
        latest = run / "checkpoints" / "latest"
        wait_until(latest.exists, hosts, "no checkpoint was written")
        assert hosts[0].has_said(f"steps of 6 on {HOSTS} rank(s)")
        network.cut_off(HOSTS - 1)
        left = hosts[:-1]
        lost = f" of {HOSTS} lost another one: it ended, or its host cannot be reached"
        stopped = wait_until(
            lambda: all(host.has_said(lost) for host in left), hosts, "not stopped", WITHIN_S
        )
        done = len(losses_of(run))
        again = f"steps of 6 on {HOSTS - 1} rank(s)"
        resumed = wait_until(lambda: hosts[0].has_said(again), hosts, "not gone on")
        assert hosts[0].has_said("going on from elastic/checkpoints/step-")
        wait_until(lambda: len(losses_of(run)) > done + 20, hosts, "no more steps")
        print(f"\nthe others stopped after {stopped:.0f} s and went on {resumed:.0f} s later")
    finally:
        for host in hosts:
            host.stop()
