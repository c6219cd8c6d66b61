"""InsightFace's verification sets: a pickle of (encoded images, issame)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.images import BadImageError, decode_image, resize
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.pair_set import PairSet
from sf2cli.evaluation.unpickle import ByteArray, as_bytes, load_untrusted
from sf2cli.files import file_sha256

_REMEDY = "Expected an InsightFace .bin: (images, issame), two images a pair."


@dataclass(frozen=True)
class PairBin:
    """Encoded images, two a pair in order, and whether each pair is genuine (bool [pairs])."""

    images: list[bytes]
    issame: NDArray[np.bool_]


@dataclass(frozen=True)
class _BinFaces:
    path: Path
    images: list[bytes]

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        try:
            return resize(decode_image(self.images[i], channels), image_size)
        except BadImageError as failure:
            raise Sf2Error(
                f"{self.path}: image {i} (pair {i // 2}): {failure}",
                "Get the file again from where it came.",
            ) from None

    def source(self, i: int) -> str:
        return f"image {i}"

    def read(self, i: int) -> bytes:
        return self.images[i]


def open_bin(path: Path) -> PairSet:
    """The pairs of an InsightFace .bin, in its order.

    Raises:
        Sf2Error: as `read_bin`, or a file without genuine or without impostor pairs.
    """
    content = read_bin(path)
    numbers = np.arange(len(content.images), dtype=np.int32)
    return PairSet(
        name=path.stem,
        protocol="InsightFace .bin",
        source=path,
        data_sha256=file_sha256(path),
        hashed="the file",
        faces=_BinFaces(path, content.images),
        first=numbers[0::2],
        second=numbers[1::2],
        issame=content.issame,
        all_pairs=False,
        folds="contiguous",
    )


def read_bin(path: Path) -> PairBin:
    """Read a .bin written by Python 2 or 3, with images as bytes, str or uint8 arrays.

    The images are not decoded here.

    Raises:
        Sf2Error: unreadable, not such a pickle, or a pickle that asks for foreign code.
    """
    content = load_untrusted(path)
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise Sf2Error(f"{path}: found {_kind(content)}, expected a pair of lists", _REMEDY)
    bins, truths = content
    issame = _issame(path, truths)
    if not isinstance(bins, (tuple, list)):
        raise Sf2Error(f"{path}: images: found {_kind(bins)}, expected a list", _REMEDY)
    if len(bins) != 2 * len(issame):
        raise Sf2Error(
            f"{path}: {len(bins)} images for {len(issame)} pairs, expected {2 * len(issame)}",
            _REMEDY,
        )
    images = []
    for i, item in enumerate(bins):
        data = as_bytes(item)
        if data is None:
            raise Sf2Error(f"{path}: image {i}: found {_kind(item)}, expected bytes", _REMEDY)
        images.append(data)
    return PairBin(images, issame)


def _issame(path: Path, truths: Any) -> NDArray[np.bool_]:
    if isinstance(truths, ByteArray) and truths.data is not None:
        return np.frombuffer(truths.data, np.uint8).astype(np.bool_)
    if not isinstance(truths, (tuple, list)):
        raise Sf2Error(f"{path}: issame: found {_kind(truths)}, expected a list", _REMEDY)
    for k, truth in enumerate(truths):
        if not isinstance(truth, int) or truth not in (0, 1):
            raise Sf2Error(
                f"{path}: issame: entry {k}: found {_kind(truth)}, expected True or False", _REMEDY
            )
    return np.array(truths, dtype=np.bool_)


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
