"""Reading a packed set to the last byte: `sf2 pack --verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sf2cli import console
from sf2cli.data.encode import stored_form
from sf2cli.data.images import BadImageError
from sf2cli.data.layout import Layout, sample_key
from sf2cli.data.manifest import SOURCES_NAME, Manifest
from sf2cli.data.neighbours import neighbours
from sf2cli.data.packed import PackedSet
from sf2cli.data.tar_member import BLOCK, END, member_header, padding
from sf2cli.data.workers import Workers
from sf2cli.errors import Sf2Error

_NAMED = 20


def verify_set(folder: Path, workers: int) -> Manifest:
    """Compare every byte of a set with what its manifest and index say, and decode every image.

    A shard that has its hash is still read sample by sample: keys, labels and images must be what
    the index and the manifest make of them.

    Args:
        folder: of the set.
        workers: processes that read shards.

    Returns:
        The manifest of the set, which is sound.

    Raises:
        Sf2Error: names what is wrong.
    """
    # Whatever makes a set unfit to be opened.
    packed = PackedSet.open(folder)
    manifest = packed.manifest
    wrong = _wrong_around(packed)
    shards = len(manifest.shards)
    work = partial(_share, packed)
    with (
        Workers(min(workers, shards), work) as pool,
        console.progress("verify", shards, unit="shards") as line,
    ):
        for found in pool.results():
            wrong += found
            line.advance()
    if wrong:
        more = f"\n  and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise Sf2Error(
            f"packed set {folder}: {len(wrong)} things are wrong:\n  "
            + "\n  ".join(wrong[:_NAMED])
            + more,
            "Copy the set again, or pack it again with --overwrite.",
        )
    return manifest


def _wrong_around(packed: PackedSet) -> list[str]:
    """What is wrong with the index, the sources and the neighbours' files."""
    manifest, wrong = packed.manifest, []
    counts = np.bincount(packed.labels, minlength=manifest.num_identities)
    for label in np.flatnonzero(counts != manifest.samples_per_identity).tolist():
        wrong.append(
            f"identity {manifest.identities[label]} has {counts[label]} images in the index and"
            f" {manifest.samples_per_identity[label]} in the manifest"
        )
    lines = 0
    with (packed.folder / SOURCES_NAME).open("rb") as stream:
        lines = sum(1 for _ in stream)
    if lines != manifest.samples:
        wrong.append(f"{SOURCES_NAME} has {lines} lines for {manifest.samples} images")
    for name, text in neighbours(manifest).items():
        path = packed.folder / name
        if path.exists() and path.read_bytes() != text.encode():
            wrong.append(f"{name} does not say what the manifest says")
    return wrong


def _share(packed: PackedSet, worker: int, workers: int) -> Iterator[tuple[bool, list[str]]]:
    starts = np.cumsum([0, *(shard.samples for shard in packed.manifest.shards)]).tolist()
    for number in range(worker, len(packed.manifest.shards), workers):
        shard = packed.manifest.shards[number]
        samples = range(starts[number], starts[number + 1])
        yield False, [f"{shard.file}: {what}" for what in _wrong_in_shard(packed, number, samples)]


def _wrong_in_shard(packed: PackedSet, number: int, samples: range) -> Iterator[str]:
    """What is wrong with a shard, read from the front to the back."""
    shard = packed.manifest.shards[number]
    digest = hashlib.sha256()
    layout = Layout(shard.bytes)
    try:
        with (packed.folder / shard.file).open("rb") as stream:

            def take(size: int) -> bytes:
                data = stream.read(size)
                digest.update(data)
                return data

            for i in samples:
                at, offset, size, label = packed.row(i)
                text = b"%d" % label
                expected = layout.add(len(text), size)
                if (
                    expected is None
                    or (at, offset) != (number, expected)
                    or expected + size > shard.bytes
                ):
                    yield f"sample {sample_key(i)}: the index leads elsewhere"
                    return
                start = take(expected - BLOCK - stream.tell())
                if start != _member(f"{sample_key(i)}.cls", text):
                    yield f"sample {sample_key(i)}: its key or label is another one"
                header, data, rest = take(BLOCK), take(size), take(-size % BLOCK)
                yield from _wrong_with_image(packed.manifest, i, header, data, rest)
            if take(shard.bytes) != END:
                yield "its end is not that of a tar"
    except OSError as failure:
        yield f"cannot be read ({failure.strerror})"
        return
    if digest.hexdigest() != shard.sha256:
        yield f"its sha256 is {digest.hexdigest()[:12]}..., not {shard.sha256[:12]}..."


def _wrong_with_image(
    manifest: Manifest, i: int, header: bytes, data: bytes, rest: bytes
) -> Iterator[str]:
    where = f"sample {sample_key(i)}"
    try:
        image = stored_form(data, None, None)
    except BadImageError as failure:
        yield f"{where}: {failure}"
        return
    if image.data is not data:
        yield f"{where}: its image is neither JPEG nor PNG"
    if header != member_header(f"{sample_key(i)}.{image.kind}", len(data)) or any(rest):
        yield f"{where}: the member of its image is not {sample_key(i)}.{image.kind}"
    size = manifest.image.size
    if size not in (None, (image.height, image.width)):
        yield f"{where}: {image.height} x {image.width} pixels, in a set of {size}"
    if manifest.image.colour == "L" and not image.grey:
        yield f"{where}: it has colours, in a set of grey images"


def _member(name: str, data: bytes) -> bytes:
    return member_header(name, len(data)) + data + padding(len(data))
