"""Throughput of a whole training step and where its time goes: `make bench-step`.

iresnet18 at 112 x 112 and 100,000 identities, through the loader and `TrainingEngine` of `sf2
train`, on random pictures that are made and packed on the spot. A row is the median of the timed
steps with the extremes in brackets; the split is of one more step, under torch's profiler.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from synthetic_set import make_set

IDENTITIES, SIZE, EMBEDDING, PICTURES, PACKED = 100_000, 112, 512, 256, 8
PARTS = ("data", "forward", "backward", "head", "optimizer")


def measure(shards: Path, precision: str, batch: int, steps: int, backbone: str) -> None:
    """Be one rank; the first prints the seconds of each step and of each part as JSON."""
    from torch.profiler import ProfilerActivity, profile

    from sf2cli.data.loader import TrainLoader
    from sf2cli.data.packed import PackedSet
    from sf2cli.recipe import Recipe
    from sf2cli.training.ds_config import fill_ds_config
    from sf2cli.training.engine import TrainingEngine, new_backbone
    from sf2cli.training.place import read_place
    from sf2cli.training.world import join_world, leave_world

    recipe = Recipe.model_validate(
        {
            "name": "bench",
            "batch_size": batch,
            "precision": precision,
            "data": {"shards": str(shards), "image_size": SIZE},
            "backbone": {"name": backbone, "embedding_size": EMBEDDING},
            "head": {"storage": "bf16" if precision == "bf16" else "fp32"},
            "optimizer": {"lr": 0.01},
            "schedule": {"steps": steps},
        }
    )
    world = join_world(read_place(os.environ))
    ds_config = fill_ds_config({"zero_optimization": {"stage": 1}}, recipe, world.size, Path())
    engine = TrainingEngine(
        recipe, new_backbone(recipe), ds_config, world, IDENTITIES, planned_steps=1
    )
    loader = TrainLoader(
        PackedSet.open(shards),
        batch_size=batch // world.size,
        rank=world.rank,
        world_size=world.size,
        seed=0,
        image_size=SIZE,
        channels=3,
        flip=True,
        workers=0,
    )
    batches = (pair for epoch in range(10**6) for pair in loader.epoch(epoch))
    engine.step(*next(batches))
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        engine.step(*next(batches)).item()
        seconds.append(time.perf_counter() - began)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        pair = next(batches)
        split = {"data": time.perf_counter() - began}
        engine.step(*pair).item()
    for part in PARTS[1:]:
        spans = [e.time_range.elapsed_us() for e in profiler.events() if e.name == f"sf2.{part}"]
        split[part] = sum(spans) * 1e-6
    if world.rank == 0:
        print(json.dumps({"seconds": seconds, "split": split}))
        if os.environ.get("SF2_BENCH_OPERATORS"):
            table = profiler.key_averages().table("self_cpu_time_total", row_limit=18)
            print(table, file=sys.stderr)
    leave_world()
    sys.stdout.flush()
    # DeepSpeed's threads can abort an interpreter that is being torn down.
    os._exit(0)


def run_ranks(shards: Path, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the first of the ranks printed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    threads = max(1, options.cores // options.ranks)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--rank-of", str(shards), precision],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(options.ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": str(threads),
            },
        )
        for rank in range(options.ranks)
    ]
    said = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit(f"a rank ended with {[rank.returncode for rank in ranks]}")
    found: dict[str, Any] = json.loads(said[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each precision")
    parser.add_argument("--ranks", type=int, default=2, help="processes that share the cores")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument(
        "--rank-of", nargs=2, metavar=("SHARDS", "PRECISION"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.rank_of:
        shards, precision = options.rank_of
        measure(Path(shards), precision, options.batch, options.steps, options.backbone)
    rows = {}
    with tempfile.TemporaryDirectory(prefix="sf2-bench-") as name:
        shards = Path(name) / "pictures"
        make_set(shards, PICTURES, SIZE, PICTURES // PACKED)
        for precision in options.precision.split(","):
            rows[precision] = run_ranks(shards, precision, options)
    print(f"| {options.backbone} | images/s | " + " | ".join(f"{part}, s" for part in PARTS) + " |")
    print("|---|---|" + "---|" * len(PARTS))
    for precision, row in rows.items():
        rates = sorted(options.batch / seconds for seconds in row["seconds"])
        spread = f"{statistics.median(rates):.1f} ({rates[0]:.1f}-{rates[-1]:.1f})"
        split = " | ".join(f"{row['split'][part]:.3f}" for part in PARTS)
        print(f"| {precision} | {spread} | {split} |")
    if len(rows) > 1:
        slow, fast = (statistics.median(row["seconds"]) for row in (*rows.values(),)[:2])
        print(f"\n{' over '.join(reversed([*rows][:2]))}: {slow / fast:.2f}")


if __name__ == "__main__":
    main()
