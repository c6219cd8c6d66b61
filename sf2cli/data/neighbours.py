"""Files beside the shards that other readers of WebDataset look for."""

from __future__ import annotations

import json
from pathlib import Path

from sf2cli.data.manifest import Manifest
from sf2cli.files import write_through

WIDS_NAME = "wids.json"
SIZES_NAME = "sizes.json"


def neighbours(manifest: Manifest) -> dict[str, str]:
    """Contents by file name: the index of wids, and the counts that open_clip reads."""
    wids = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": manifest.name,
        "shardlist": [
            {"url": shard.file, "nsamples": shard.samples, "filesize": shard.bytes}
            for shard in manifest.shards
        ],
    }
    sizes = {shard.file: shard.samples for shard in manifest.shards}
    return {
        name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for name, content in ((WIDS_NAME, wids), (SIZES_NAME, sizes))
    }


def write_neighbours(folder: Path, manifest: Manifest) -> None:
    """Write them into the set's folder.

    Raises:
        OSError: the disk is full.
    """
    for name, text in neighbours(manifest).items():
        write_through(folder / name, text)
