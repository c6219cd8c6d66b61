"""The index of shards that sf2 did not pack: what it would have written beside them, in a folder.

A scan reads the tars' headers and the labels. Identities are named by their labels, which get
class ids in the order that `sf2 pack` gives them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sf2cli import console
from sf2cli.data.manifest import (
    INDEX_NAME,
    SOURCES_NAME,
    ImageFormat,
    Manifest,
    Shard,
    write_manifest,
)
from sf2cli.data.sources.grouping import Names, name_order
from sf2cli.data.sources.shard_samples import ShardReader
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256


@dataclass(frozen=True)
class ScannedShard:
    """A tar to scan.

    Args:
        title: what messages call it.
        file: its bare name.
        open: makes its content a file on this machine.
        names: the identities' names by class id, where they are known.
        hashed: whether to note its sha256, which reads all of it.
    """

    title: str
    file: str
    open: Callable[[], Path]
    names: list[str] | None = None
    hashed: bool = False


def scan_shards(shards: list[ScannedShard], folder: Path, name: str) -> None:
    """Write manifest, index and sources of the shards into an empty folder.

    Raises:
        Sf2Error: one cannot be read, was cut short, has no sample with an image, or a sample
            without a label; see `ShardReader`.
        OSError: the folder cannot be written.
    """
    found, kept = Names(), list[Shard]()
    # Shard, offset, size and label of each sample: of a few bytes, where objects take hundreds.
    rows, without_image = array("q"), 0
    with (
        (folder / SOURCES_NAME).open("w", encoding="utf-8", newline="\n") as sources,
        console.progress(f"index {name}", len(shards), unit="shards") as line,
    ):
        for number, shard in enumerate(shards):
            path = shard.open()
            reader, before = ShardReader(path, shard.names), len(rows)
            try:
                for sample in reader.samples():
                    label = found.number(sample.label)
                    rows.extend((number, sample.offset, sample.size, label))
                    prefix = "" if sample.key.startswith(f"{sample.label}/") else f"{sample.label}/"
                    sources.write(f"{prefix}{sample.key}\n")
                if reader.faults:
                    raise reader.faults[0].error
            except Sf2Error as failure:
                message = failure.message.replace(f"SOURCE {path}", f"data.shards {shard.title}")
                raise Sf2Error(message, failure.remedy) from None
            if len(rows) == before:
                raise Sf2Error(
                    f"data.shards {shard.title}: no sample with an image in it",
                    "Leave it out, or name tars of images with a .cls, .json or .txt each.",
                )
            without_image += reader.without_image
            kept.append(
                Shard(
                    file=shard.file,
                    samples=(len(rows) - before) // 4,
                    bytes=path.stat().st_size,
                    sha256=file_sha256(path) if shard.hashed else "",
                )
            )
            line.advance()
    index = np.frombuffer(rows, dtype=np.int64).reshape(-1, 4).copy()
    names = name_order(found)
    ranks = {label: rank for rank, label in enumerate(names)}
    index[:, 3] = np.array([ranks[label] for label in found])[index[:, 3]]
    np.save(folder / INDEX_NAME, index)
    write_manifest(
        folder,
        Manifest(
            name=name,
            samples=len(index),
            identities=names,
            samples_per_identity=np.bincount(index[:, 3], minlength=len(names)).tolist(),
            # Their headers were not read. Training decodes to what the recipe says.
            image=ImageFormat(size=None, colour="RGB"),
            shards=kept,
            index_sha256=file_sha256(folder / INDEX_NAME),
            sources_sha256=file_sha256(folder / SOURCES_NAME),
            made_by={"tool": "sf2 train", "samples_without_image": without_image},
        ),
    )
    if without_image:
        console.warn(f"{name}: {without_image} samples without an image are left out")
