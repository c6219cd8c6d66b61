"""The loader against plain webdataset with Pillow, and its memory: `make bench-loader`.

    python scripts/bench_loader.py                      images a second of one core, as a table
    python scripts/bench_loader.py --memory 100k,1M     the peak memory of a rank and two workers

Both read the same shards of synthetic 112 x 112 JPEGs of 6 kB, and give shuffled, mirrored uint8
batches. They take turns; a rate is images by the processor time of all processes involved, which
other programs on the machine disturb less than the time on the clock.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from synthetic_set import make_set

from sf2cli.data.loader import TrainLoader
from sf2cli.data.packed import PackedSet

BATCH, IMAGES_OF_ONE = 128, 20
WAYS = ("sf2", "webdataset")


def of_sf2(folder: Path, workers: int, size: int = 112) -> Iterator[Any]:
    loader = TrainLoader(
        PackedSet.open(folder),
        batch_size=BATCH,
        rank=0,
        world_size=1,
        seed=0,
        image_size=size,
        channels=3,
        flip=True,
        workers=workers,
    )
    return loader.epoch(0)


def of_webdataset(folder: Path, workers: int) -> Iterator[Any]:
    import webdataset

    def mirrored(image: Image.Image) -> np.ndarray[Any, Any]:
        pixels = np.asarray(image)
        return pixels[:, ::-1] if torch.rand(()) < 0.5 else pixels

    def stacked(samples: list[tuple[Any, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.stack([image for image, _ in samples])
        return torch.from_numpy(images), torch.tensor([label for _, label in samples])

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    samples = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(1000)
    decoded = samples.decode("pil").to_tuple("jpg", "cls").map_tuple(mirrored, lambda label: label)
    batches = decoded.batched(BATCH, collation_fn=stacked, partial=False)
    if not workers:
        return iter(batches)
    return iter(torch.utils.data.DataLoader(batches, batch_size=None, num_workers=workers))


def rate(way: str, folder: Path, workers: int) -> float:
    """Images a second of processor time, of this process and its workers."""
    torch.set_num_threads(1)
    batches = {"sf2": of_sf2, "webdataset": of_webdataset}[way](folder, workers)
    # Imports and workers' starts happen here.
    images, began = -len(next(batches)[0]), busy()
    for pixels, _ in batches:
        images += len(pixels)
    images += BATCH
    # A worker's time counts once it has ended.
    del batches
    return images / (busy() - began)


def busy() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def in_a_child(function: Callable[..., float], *args: Any) -> float:
    """`function(*args)` in a process of its own, so that no run inherits what another has kept."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=lambda: there.send(function(*args)))
    child.start()
    there.close()
    try:
        return float(here.recv())
    except EOFError:
        raise SystemExit("a measurement failed; see above") from None
    finally:
        child.join()


def compare(samples: int, rounds: int, workers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = make_set(Path(name) / "set", samples, 112, IMAGES_OF_ONE, 8_000_000)
        kept = sum(path.stat().st_size for path in folder.glob("*.tar")) / samples / 1000
        print(f"{samples} images, {kept:.1f} kB each in the tars; {rounds} rounds, taking turns\n")
        print("| workers | " + " | ".join(f"{way}, images/s" for way in WAYS) + " | ratio |")
        print("|---|---|---|---|")
        for number in workers:
            found: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way in WAYS:
                    found[way].append(in_a_child(rate, way, folder, number))
            ratios = [ours / theirs for ours, theirs in zip(*found.values(), strict=True)]
            cells = [shown(values, "{:.0f}") for values in found.values()]
            print(f"| {number} | {' | '.join(cells)} | {shown(ratios, '{:.2f}')} |", flush=True)


def shown(values: list[float], form: str) -> str:
    """The median, and the extremes in brackets."""
    low, high = form.format(min(values)), form.format(max(values))
    return f"{form.format(statistics.median(values))} ({low}-{high})"


def peak_of_epoch(folder: Path, workers: int) -> float:
    """MiB of this process and its workers while an epoch passes; shared pages count once."""
    torch.set_num_threads(1)
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            held = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            peak = max(peak, sum(map(proportional_mib, held)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in of_sf2(folder, workers, size=16):
        pass
    done.set()
    watcher.join()
    return peak


def proportional_mib(pid: int | None) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        # It has just ended.
        return 0.0
    return (
        next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
    )


def memory(counts: list[str]) -> None:
    print("| samples | peak of a rank and 2 workers | seconds |\n|---|---|---|")
    for count in counts:
        samples = int(count.replace("k", "000").replace("M", "000000"))
        with tempfile.TemporaryDirectory() as name:
            folder = make_set(Path(name) / "set", samples, 16, IMAGES_OF_ONE)
            began = time.perf_counter()
            peak = in_a_child(peak_of_epoch, folder, 2)
            print(f"| {count} | {peak:.0f} MiB | {time.perf_counter() - began:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="0,1,2", help="loader processes, each is measured")
    parser.add_argument("--memory", metavar="COUNTS", help="measure memory instead: 100k,1M")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory.split(","))
    else:
        compare(options.samples, options.rounds, [int(n) for n in options.workers.split(",")])


if __name__ == "__main__":
    main()
