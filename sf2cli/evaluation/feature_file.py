"""Features that were computed elsewhere: rows in a .npy or .npz file, by the images' names.

The folder that `sf2 embed` writes is read back: embeddings.npy, keys.txt, and embed.json, which
knows the model's input and head. An .npz holds `embeddings` and `keys`. Without keys the rows are
in the order of the set's images.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sf2cli.backbones.saved import Preprocessing, first_few
from sf2cli.errors import Sf2Error, why
from sf2cli.evaluation.embed import check_rows
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.pair_set import Faces
from sf2cli.files import file_sha256

EMBEDDINGS_NAME = "embeddings.npy"
KEYS_NAME = "keys.txt"
ABOUT_NAME = "embed.json"

_REMEDY = "Expected float rows [n, d]: a .npy, or an .npz with `embeddings` and `keys`."
_AGAIN = "Embed the images again."


@dataclass(frozen=True)
class FeatureFile:
    """Looks its rows up; `places` maps an image's name to its row, None goes by the order."""

    card: EmbedderCard
    rows: NDArray[np.floating]
    places: dict[str, int] | None
    device: str = "none"

    def embed(self, faces: Faces, description: str) -> NDArray[np.float32]:
        """See `Embedder.embed`.

        Raises:
            Sf2Error: an image without a row, other images than rows, or rows that are not finite or
                all zeros.
        """
        found = self.rows[self._numbers(faces)].astype(np.float32)
        check_rows(found, faces, "The features are damaged: compute them again.")
        return found

    def _numbers(self, faces: Faces) -> NDArray[np.int64]:
        if self.places is None:
            if len(self.rows) != len(faces):
                raise Sf2Error(
                    f"{self.card.place}: {len(self.rows)} rows for {len(faces)} images",
                    "Give the images' names by --keys FILE, one a line, or compute every one.",
                )
            return np.arange(len(faces))
        names = [faces.source(i) for i in range(len(faces))]
        missing = [name for name in names if name not in self.places]
        if missing:
            raise Sf2Error(
                f"{self.card.place}: no row for {len(missing)} of {len(names)} images:"
                f" {first_few(missing)}",
                "Its keys must be the images' names in the set, as `sf2 embed` writes them.",
            )
        return np.array([self.places[name] for name in names])


def open_features(path: Path, said: InputOptions) -> FeatureFile:
    """The features in a .npy, an .npz or a folder that `sf2 embed` wrote.

    Raises:
        Sf2Error: unreadable, not rows of numbers, or keys that do not fit them.
    """
    file = path / EMBEDDINGS_NAME if path.is_dir() else path
    rows, keys = _read(file)
    beside = said.keys or (path / KEYS_NAME if path.is_dir() else None)
    if beside is not None:
        keys = _read_keys(beside)
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise Sf2Error(f"{file}: found {rows.dtype} {list(rows.shape)}", _REMEDY)
    made = _made_by(path)
    card = EmbedderCard(
        place=path,
        kind="features",
        network=made.network,
        embedding_size=rows.shape[1],
        image_size=said.image_size or made.image_size,
        preprocessing=said.preprocessing(made.preprocessing),
        mirrored=made.mirrored,
        sha256=_sha256(file, keys),
        head=made.head,
    )
    return FeatureFile(card, rows, _places(file, rows, keys) if keys is not None else None)


@dataclass(frozen=True)
class _Made:
    """What made the rows; images are read for the pictures and the raw pixels alone."""

    network: str = "computed elsewhere"
    image_size: int = 112
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(colour="RGB"))
    mirrored: bool = False
    head: dict[str, Any] = field(default_factory=dict)


def _made_by(folder: Path) -> _Made:
    """As embed.json in `folder` has it, where there is one."""
    path = folder / ABOUT_NAME
    if not path.is_file():
        return _Made()
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        told = dict(model["input"])
        size, mirrored, head = told.pop("image_size"), told.pop("mirrored"), model["head"]
        if not (isinstance(size, int) and size > 0 and isinstance(head, dict)):
            raise ValueError(f"image_size {size!r}, head {head!r:.80}")
        network = f"computed by {model['network']} of {model['place']}"
        return _Made(network, size, Preprocessing(**told), bool(mirrored), head)
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise Sf2Error(f"{path}: not as `sf2 embed` writes it ({failure})", _AGAIN) from None


def _read(file: Path) -> tuple[NDArray[np.floating], list[str] | None]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content, None
        with content:
            if "embeddings" not in content:
                raise Sf2Error(f"{file}: its arrays are {', '.join(content)}", _REMEDY)
            keys = [str(key) for key in content["keys"]] if "keys" in content else None
            return content["embeddings"], keys
    except OSError as failure:
        raise Sf2Error(f"features {file}: cannot be read ({why(failure)})", _REMEDY) from None
    except (ValueError, EOFError, KeyError, BadZipFile) as failure:
        raise Sf2Error(f"features {file}: not numpy's format ({failure})", _REMEDY) from None


def _sha256(file: Path, keys: list[str] | None) -> str:
    """Of the rows and of what says which image each belongs to."""
    if keys is None:
        return file_sha256(file)
    told = json.dumps([file_sha256(file), keys])
    return hashlib.sha256(told.encode()).hexdigest()


def _read_keys(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"--keys {path}: cannot be read ({why(failure)})") from None


def _places(file: Path, rows: NDArray[np.floating], keys: list[str]) -> dict[str, int]:
    if len(keys) != len(rows):
        raise Sf2Error(f"{file}: {len(keys)} keys for {len(rows)} rows", _REMEDY)
    places = {key: row for row, key in enumerate(keys)}
    if len(places) != len(keys):
        twice = [key for row, key in enumerate(keys) if places[key] != row]
        raise Sf2Error(f"{file}: keys that stand twice: {first_few(twice)}", _REMEDY)
    return places
