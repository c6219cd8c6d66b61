"""`sf2 pack` against webdataset's ShardWriter on a synthetic .rec file: `make bench-pack`.

    python scripts/bench_pack.py [--images 200000] [--runs 3] [--memory 1000000] [--at FOLDER]

Both read the same file by the same reader, in processes of their own, turn about. ShardWriter
gets a sample at a time, the image's bytes and the class, as its users write it; it checks
nothing. sf2 decodes every image and hashes every shard, and waits for the disk. With --memory,
the peak memory of packing a tenth of so many small images and all of them follows.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

import numpy as np
from PIL import Image

MAGIC = struct.pack("<I", 0xCED7230A)
PER_IDENTITY = 20
DISTINCT = 500

# Each of these runs in a process of its own; the last line says seconds and peak kilobytes.
SF2 = """
import sys
from sf2cli.cli import cli
cli(["pack", sys.argv[1], sys.argv[2], "--shard-size", "256"], standalone_mode=False)
"""
WEBDATASET = """
import os, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import webdataset
from sf2cli.data.sources.recordio import RecordIoSource
out = Path(sys.argv[2])
out.mkdir()
with webdataset.ShardWriter(str(out / "set-%06d.tar"), maxsize=256e6, verbose=0) as writer:
    number = 0
    for label, identity in enumerate(RecordIoSource(Path(sys.argv[1])).identities()):
        for image in identity.images:
            writer.write({"__key__": f"{number:09d}", "jpg": image.read(), "cls": label})
            number += 1
"""


def write_rec(path: Path, images: int, edge: int, quality: int) -> float:
    """A .rec of JPEGs in InsightFace's layout, without its index; the mean bytes of an image.

    The pictures are a few hundred, smooth with some noise, so that they weigh what faces do.
    """
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(min(images, DISTINCT)):
        coarse = rng.integers(0, 256, (edge // 8 + 1, edge // 8 + 1, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        stream = io.BytesIO()
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(stream, "JPEG", quality=quality)
        pictures.append(stream.getvalue())
    with path.open("wb") as stream, path.with_suffix(".idx").open("w") as index:
        for key in range(images):
            picture = pictures[key % len(pictures)]
            # An image may hold the magic number, at which a record would be cut: none does.
            assert MAGIC not in picture
            payload = struct.pack("<IfQQ", 0, key // PER_IDENTITY, key, 0) + picture
            index.write(f"{key}\t{stream.tell()}\n")
            stream.write(MAGIC + struct.pack("<I", len(payload)) + payload)
            stream.write(bytes(-len(payload) % 4))
    return statistics.mean(len(picture) for picture in pictures)


@dataclass(frozen=True)
class Run:
    """One packing: seconds on the clock and of all cores, peak MB of a process, MB of the tars."""

    seconds: float
    core_seconds: float
    peak: float
    written: float


def run(code: str, rec: Path, out: Path) -> Run:
    started = time.perf_counter()
    command = [sys.executable, "-c", code, str(rec), str(out)]
    process = subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"a run failed with status {status}")
    written = sum(path.stat().st_size for path in out.glob("*.tar"))
    shutil.rmtree(out)
    cores = usage.ru_utime + usage.ru_stime
    return Run(seconds, cores, usage.ru_maxrss / 1000, written / 1e6)


def compare(folder: Path, images: int, runs: int) -> None:
    rec = folder / "train.rec"
    mean = write_rec(rec, images, 112, 91)
    print(f"{images} JPEGs of {mean:.0f} bytes, {os.cpu_count()} cores, {runs} runs each in turn")
    found: dict[str, list[Run]] = {"webdataset": [], "sf2": []}
    for _ in range(runs):
        for name, code in (("webdataset", WEBDATASET), ("sf2", SF2)):
            found[name].append(run(code, rec, folder / name))
    for name, results in found.items():
        seconds = [one.seconds for one in results]
        cores = statistics.median(one.core_seconds for one in results)
        print(
            f"{name:10s}  {statistics.median(seconds):7.1f} s ({min(seconds):.1f} to"
            f" {max(seconds):.1f})  {images / statistics.median(seconds):7.0f} images/s "
            f" {cores:6.1f} s of cores  {results[0].written:8.1f} MB"
        )
    pairs = list(zip(found["webdataset"], found["sf2"], strict=True))
    ratios = [theirs.seconds / ours.seconds for theirs, ours in pairs]
    smaller = 1 - pairs[0][1].written / pairs[0][0].written
    print(
        f"sf2 is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to"
        f" {max(ratios):.2f}), its shards {smaller:.1%} smaller"
    )


def memory(folder: Path, images: int) -> None:
    peaks = {}
    for count in (images // 10, images):
        rec = folder / f"{count}.rec"
        write_rec(rec, count, 16, 60)
        peaks[count] = run(SF2, rec, folder / "set").peak
        rec.unlink()
        print(f"{count} images of 16 x 16: peak {peaks[count]:.0f} MB")
    few, many = peaks.values()
    print(f"{(many - few) * 1e6 / (images - images // 10):.0f} bytes an image more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", type=int, default=1_000_000)
    parser.add_argument("--at", type=Path, help="folder to work in, instead of the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.at) as name:
        if options.images:
            compare(Path(name), options.images, options.runs)
        if options.memory:
            memory(Path(name), options.memory)


if __name__ == "__main__":
    main()
