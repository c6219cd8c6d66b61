"""Packed sets for the benchmarks: soft pictures with a little noise, which weigh what faces do."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from sf2cli.data.encode import StoredImage
from sf2cli.data.journal import Journal
from sf2cli.data.writer import SetWriter

DISTINCT = 512


def picture(seed: int, size: int) -> StoredImage:
    """A JPEG; of 112 x 112 pixels, it has 6 kB."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, size // 8), max(2, size // 8), 3), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    pixels = (np.asarray(soft) + random.normal(0, 6, (size, size, 3))).clip(0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=92)
    return StoredImage(stream.getvalue(), "jpg", size, size, grey=False)


def make_set(
    folder: Path, samples: int, size: int, per_identity: int, shard_bytes: int = 10**8
) -> Path:
    """A packed set of `samples` images, the same few hundred over and over."""
    pictures = [picture(seed, size) for seed in range(min(DISTINCT, samples))]
    made = folder.with_name(f"{folder.name}.making") / "set"
    made.mkdir(parents=True)
    journal = Journal(made.parent, {"started_ns": 0})
    with SetWriter(made, "bench", shard_bytes, journal) as writer:
        for i in range(samples):
            if i % per_identity == 0:
                writer.add_identity(f"id{i // per_identity}", i)
            writer.add_image(pictures[i % len(pictures)], f"id{i // per_identity}/{i}", i)
        writer.settle(samples)
        writer.finish({})
    made.rename(folder)
    shutil.rmtree(made.parent)
    return folder
