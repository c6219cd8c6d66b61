"""A small recipe and packed set for runs of `sf2 train` that end in a second."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.pictures import noise, stored, write_set

IDENTITIES, IMAGES, BATCH, STEPS = 5, 6, 8, 4
CONFIGS = Path(__file__).parents[2] / "configs"
RECIPE = f"""
name: tiny
batch_size: {BATCH}
data: {{shards: set, image_size: 16, channels: 1}}
backbone: {{name: sfnet4_bn, embedding_size: 32}}
optimizer: {{lr: 0.01}}
schedule: {{steps: {STEPS}}}
"""


def write_place(folder: Path) -> Path:
    """A folder with recipe.yaml, the packed set it names, and ds.json."""
    pictures = [stored(noise(16, 16, 1, seed)) for seed in range(IDENTITIES * IMAGES)]
    write_set(folder / "set", [pictures[i::IDENTITIES] for i in range(IDENTITIES)])
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "ds.json").write_text((CONFIGS / "ds_zero1.json").read_text())
    return folder


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The steps of metrics.jsonl, without what a clock measured."""
    return [line for line in lines_of(run) if "loss" in line]


def lines_of(run: Path) -> list[dict[str, Any]]:
    """All of metrics.jsonl without what a clock measured of a step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    clocks = {"images_per_s", "data_wait", "memory_gib"}
    return [{k: v for k, v in line.items() if k not in clocks} for line in lines]


def losses_of(run: Path) -> list[float]:
    """The loss of every step."""
    return [line["loss"] for line in metrics_of(run)]


def is_only_sf2(text: str) -> bool:
    """Whether a good run printed its kinds of lines and nothing of DeepSpeed's or torch's."""
    ours = (f"{IDENTITIES} identities, ", "train: ", "checkpoint: ", f"{STEPS} steps, ", "model: ")
    # Where a processor is slow at it, which is the machine's to say.
    ours += ("warning: precision ",)
    return all(line.startswith(ours) for line in text.splitlines())


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def ranks(count: int) -> list[dict[str, str]]:
    """What torchrun sets for so many ranks; nothing for one."""
    if count == 1:
        return [{}]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def final_bytes(run: Path) -> dict[str, bytes]:
    """The model's weights and the last checkpoint's files, as they are on the disk."""
    last = max((run / "checkpoints").glob("step-*"))
    paths = [run / "model" / "model.safetensors", *last.rglob("*.safetensors")]
    return {path.name: path.read_bytes() for path in paths}
