"""Small images and packed sets, made on the spot: no picture is kept in the repository."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf2cli.data.encode import StoredImage, stored_form
from sf2cli.data.images import encode_png
from sf2cli.data.journal import Journal
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources.source import SourceIdentity
from sf2cli.data.writer import SetWriter


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, uint8 [height, width, channels], or [height, width] with no channels."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """Pillow's encoding of an image or of pixels, `kind` being its name of the format."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def make_photos(root: Path, counts: Mapping[str, int], size: int = 16) -> Path:
    """Write `counts[identity]` JPEGs 0.jpg, 1.jpg, ... into `root`/identity; no two are alike."""
    seed = 0
    for identity, count in counts.items():
        (root / identity).mkdir(parents=True)
        for j in range(count):
            seed += 1
            (root / identity / f"{j}.jpg").write_bytes(
                encode(noise(size, size, seed=seed), "JPEG", quality=90)
            )
    return root


def stored(pixels: NDArray[np.uint8]) -> StoredImage:
    """Pixels [h, w, c] as a PNG ready for a shard."""
    return stored_form(encode_png(pixels), None, None)


def write_set(
    folder: Path,
    images: list[list[StoredImage]],
    shard_bytes: int = 10**6,
    names: list[str] | None = None,
) -> PackedSet:
    """A packed set of `images[class id]`, opened; identities are id0, id1 ... unless named."""
    names = names or [f"id{label}" for label in range(len(images))]
    made = folder.with_name(f"{folder.name}.making") / "set"
    made.mkdir(parents=True)
    journal = Journal(made.parent, {"started_ns": 0})
    with SetWriter(made, folder.name, shard_bytes, journal) as writer:
        row = 0
        for name, pictures in zip(names, images, strict=True):
            writer.add_identity(name, row)
            for j, picture in enumerate(pictures):
                writer.add_image(picture, f"{name}/{j}", row)
                row += 1
        writer.settle(row)
        writer.finish({})
    made.rename(folder)
    shutil.rmtree(made.parent)
    return PackedSet.open(folder)


def sound(identities: Iterable[SourceIdentity]) -> Iterator[SourceIdentity]:
    """The identities of a source, or the error that its first fault is."""
    for identity in identities:
        for fault in identity.faults:
            raise fault.error
        yield identity


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
