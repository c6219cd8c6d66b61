"""Who a model was trained on, as hashes of names: enough to find one again, not to list them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IDENTITIES_NAME = "identities.npy"


def name_hashes(names: Iterable[str]) -> NDArray[np.uint64]:
    """The first 8 bytes of the sha256 of each name in UTF-8, big-endian, in the names' order."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def identities_file(names: Iterable[str]) -> bytes:
    """The content of identities.npy: the names' hashes, ascending."""
    stream = io.BytesIO()
    np.save(stream, np.sort(name_hashes(names)))
    return stream.getvalue()


def trained_identities(model: Path) -> NDArray[np.uint64] | None:
    """The hashes beside the weights of a model or run folder; None where there are none."""
    for folder in (model, model / "model"):
        try:
            found: NDArray[np.uint64] = np.load(folder / IDENTITIES_NAME, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if found.dtype == np.uint64 and found.ndim == 1:
            return found
    return None
