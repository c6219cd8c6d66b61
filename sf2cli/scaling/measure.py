"""What a head step costs on this machine, measured."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass

import torch

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2

# fp32 weight, momentum and, until the head updates tile by tile, a gradient.
BYTES_PER_VALUE = 12


@dataclass(frozen=True)
class HeadTiming:
    """Seconds a step (forward, backward, update) and the process's peak memory in bytes."""

    num_ids: int
    median_s: float
    fastest_s: float
    slowest_s: float
    peak_bytes: int


def measure_head(num_ids: int, embedding_size: int, batch_size: int, steps: int) -> HeadTiming:
    """Time `steps` head steps in this process, after one that is not counted.

    Raises:
        Sf2Error: the head does not fit into the memory that is free.
    """
    needed = num_ids * embedding_size * BYTES_PER_VALUE
    free = _available_bytes()
    if needed > free:
        raise Sf2Error(
            f"--num-ids {num_ids} needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            f"At most about {free // (embedding_size * BYTES_PER_VALUE)} identities fit here.",
        )
    head = ShardedHead(num_ids, embedding_size, SphereFace2())
    optimizer = HeadSGD(head, lr=0.1)
    features = torch.randn(batch_size, embedding_size, requires_grad=True)
    labels = torch.randint(0, num_ids, (batch_size,))
    seconds = []
    with console.progress(f"{num_ids} identities", steps + 1) as line:
        for _ in range(steps + 1):
            began = time.perf_counter()
            head(features, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - began)
            line.advance()
    counted = seconds[1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return HeadTiming(num_ids, statistics.median(counted), min(counted), max(counted), peak)


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise Sf2Error("/proc/meminfo: no MemAvailable in it", "sf2 scale-test needs Linux.")
