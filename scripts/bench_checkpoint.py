"""How fast a large head reaches the disk and comes back, and in how much memory.

    make bench-checkpoint    # 2M identities, d 128, saved on 2 ranks, loaded on 3; 4 GB of disk

A checkpoint is measured against one process that writes the same bytes to the same disk and waits
for it, in turn, and loading against reading the same files. The system is asked to forget the
files before they are read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.state import load_head, take_head
from sf2cli.scaling.linux import peak_bytes, release_unused, reset_peak, resident_bytes
from sf2cli.training.checkpoint import RunState
from sf2cli.training.snapshot import Snapshot, write_checkpoint

CHUNK_BYTES = 1 << 24
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-ids", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--ranks", type=int, nargs=2, default=(2, 3), metavar=("SAVE", "LOAD"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="on the disk to measure")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-checkpoint-") as name:
        for ranks, measure in zip(options.ranks, (measure_saving, measure_loading), strict=True):
            store = Path(name) / f"store-{ranks}"
            mp.spawn(join, (ranks, store, measure, Path(name), options), nprocs=ranks)


def join(rank: int, ranks: int, store: Path, measure: Any, folder: Path, options: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(store), ranks),
        rank=rank,
        world_size=ranks,
        timeout=timedelta(hours=1),
    )
    measure(folder, options)
    dist.barrier()
    dist.destroy_process_group()


def new_head(options: Any) -> tuple[ShardedHead, HeadSGD]:
    head = ShardedHead(options.num_ids, options.width, SphereFace2())
    sgd = HeadSGD(head, lr=0.1)
    assert sgd.weight_momentum is not None
    # Zeros that were never written take no memory.
    sgd.weight_momentum.copy_(head.weight.data)
    return head, sgd


def measure_saving(folder: Path, options: Any) -> None:
    head, sgd = new_head(options)
    ranks = Ranks.of(None)
    rows = {"weight": head.weight.data, "momentum": sgd.weight_momentum}
    total = 2 * options.num_ids * options.width * 4
    plain, checkpoint, copied = [], [], []
    peaks = {False: 0, True: 0}

    def save(copy: bool) -> None:
        head_part = take_head(head, sgd, copy=copy)
        copied.append(time.perf_counter() - began) if copy else None
        state = RunState(
            step=1,
            planned_steps=1,
            bad_samples={},
            world_size=ranks.size,
            manifest_sha256="",
            products="float32",
        )
        write_checkpoint(folder, Snapshot(state, {}, head_part), ranks, keep=1)

    for _ in range(options.repeats):
        plain.append(timed(lambda: write_plainly(folder / "plain", rows, total)))
        for copy in (False, True):
            shutil.rmtree(folder / "step-00000001", ignore_errors=True)
            release_unused()
            held = resident_bytes()
            reset_peak()
            began = time.perf_counter()
            seconds = timed(lambda copy=copy: save(copy))
            if not copy:
                checkpoint.append(seconds)
            peaks[copy] = max(peaks[copy], peak_bytes() - held)
    shard = 2 * head.rows * options.width * 4
    found = ranks.collect((peaks[False], peaks[True]))
    if ranks.rank:
        return
    print(f"{options.num_ids} identities, d {options.width}, weights and momentum fp32: "
          f"{total / 1e9:.2f} GB; {options.repeats} times in turn, median (extremes)")  # fmt: skip
    print(f"saved on {ranks.size} ranks   {rates(total, checkpoint)}")
    print(f"one plain file        {rates(total, plain)}")
    ratios = [p / c for p, c in zip(plain, checkpoint, strict=True)]
    print(f"of the plain rate     {spread(ratios, '.0%')}")
    print(f"copy for background   {spread(copied, '.2f')} s that training waits")
    for copy, name in enumerate(("in the foreground", "in the background")):
        most = max(peak[copy] for peak in found)
        print(f"memory beyond the shard of {shard / MIB:.0f} MiB, {name}: {most / MIB:.0f} MiB")


def measure_loading(folder: Path, options: Any) -> None:
    ranks = Ranks.of(None)
    files = sorted((folder / "step-00000001" / "head").iterdir())
    total = sum(path.stat().st_size for path in files)
    release_unused()
    held = resident_bytes()
    reset_peak()
    head, sgd = new_head(options)
    plain, loading = [], []
    for _ in range(options.repeats):
        forget(files)
        plain.append(timed(lambda: read_plainly(files)))
        forget(files)
        loading.append(timed(lambda: load_head(folder / "step-00000001" / "head", head, sgd)))
    shard = 2 * head.rows * options.width * 4
    found = ranks.collect(peak_bytes() - held - shard)
    if ranks.rank:
        return
    print(f"loaded on {ranks.size} ranks  {rates(total, loading)}, every block checked")
    print(f"read plainly by one   {rates(total, plain)}")
    print(f"memory beyond the shard of {shard / MIB:.0f} MiB: {max(found) / MIB:.0f} MiB")


def timed(act: Callable[[], Any]) -> float:
    """Seconds until all ranks have done it."""
    dist.barrier()
    began = time.perf_counter()
    act()
    dist.barrier()
    return time.perf_counter() - began


def write_plainly(path: Path, rows: dict[str, Any], total: int) -> None:
    """As many bytes as all ranks have, from the first one's rows."""
    if dist.get_rank():
        return
    data = rows["weight"].view(torch.uint8).numpy().reshape(-1).data
    with path.open("wb", buffering=0) as stream:
        left = total
        while left:
            start = (total - left) % len(data)
            left -= stream.write(data[start : start + min(CHUNK_BYTES, left)])
        os.fsync(stream.fileno())
    path.unlink()


def read_plainly(files: list[Path]) -> None:
    if dist.get_rank():
        return
    buffer = bytearray(CHUNK_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def forget(files: list[Path]) -> None:
    if dist.get_rank() == 0:
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    dist.barrier()


def rates(total: int, seconds: list[float]) -> str:
    """MB/s of each repeat."""
    return spread([total / 1e6 / each for each in seconds], ".0f") + " MB/s"


def spread(values: list[float], form: str) -> str:
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
