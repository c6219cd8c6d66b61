"""The manifest of a packed set: what is in the shards, by name, and how to tell if it changed.

A packed set is a folder: tar shards that plain webdataset reads, `index.npy` (where each sample
lies, for random access), `sources.txt` (what each sample was called before) and `manifest.json`.
The manifest is written last: a folder without one is not a set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sf2cli.errors import Sf2Error
from sf2cli.files import write_through

MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.npy"
SOURCES_NAME = "sources.txt"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Frozen):
    """One tar file of the set; `file` is a bare name, so that no set can point outside itself."""

    file: str = Field(pattern=r"^[^/\\]+\.tar$")
    samples: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str


class ImageFormat(_Frozen):
    """How the images are stored. Size is (height, width) in pixels; None where they differ."""

    size: tuple[int, int] | None
    colour: Literal["RGB", "L"]


class Manifest(_Frozen):
    """The content of manifest.json.

    `identities[c]` is the name of class id `c`; `samples_per_identity[c]` its number of images.
    Samples are numbered 0 ... samples-1 in the order of the shards.
    """

    format: Literal["sf2-shards"] = "sf2-shards"
    version: Literal[1] = 1
    name: str
    samples: int = Field(ge=1)
    identities: list[str]
    samples_per_identity: list[int]
    image: ImageFormat
    shards: list[Shard]
    index_sha256: str
    sources_sha256: str
    made_by: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if len(self.identities) != len(self.samples_per_identity):
            raise ValueError("identities and samples_per_identity differ in length")
        if len(set(self.identities)) != len(self.identities):
            raise ValueError("an identity stands twice in identities")
        if sum(self.samples_per_identity) != self.samples:
            raise ValueError("samples_per_identity does not add up to samples")
        if sum(shard.samples for shard in self.shards) != self.samples:
            raise ValueError("the shards' samples do not add up to samples")
        return self

    @property
    def num_identities(self) -> int:
        return len(self.identities)


def load_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json.

    Raises:
        Sf2Error: no such folder, no manifest, not JSON, or fields that do not fit.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise Sf2Error(
            f"packed set {folder}: no such folder", "Make one with `sf2 pack SOURCE FOLDER`."
        )
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise Sf2Error(
            f"packed set {folder}: no {MANIFEST_NAME} in it",
            "Name the folder that `sf2 pack` wrote, or pack the images again.",
        ) from None
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{path}: not UTF-8 text", "Pack the set again.") from None
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        found = "" if isinstance(first["input"], dict | list) else f", found {first['input']!r}"
        raise Sf2Error(f"{path}: {where}: {first['msg']}{found}", "Pack the set again.") from None
    except (ValueError, RecursionError) as failure:
        raise Sf2Error(f"{path}: not JSON ({failure})", "Pack the set again.") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/manifest.json through to the disk; the last act of making a set.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    write_through(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
