"""What may be wrong with an evaluation without any number showing it.

Images of another size, colour or alignment than the model was trained on; people, or the very
images, it was trained on; a run whose model is older than its training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli.backbones.identities import name_hashes, trained_identities
from sf2cli.backbones.saved import first_few
from sf2cli.data.align import NAME
from sf2cli.data.images import BadImageError, read_header
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.colour_check import colour_warnings
from sf2cli.evaluation.crops import Crops
from sf2cli.evaluation.embedder import Embedder, EmbedderCard
from sf2cli.evaluation.feature_file import FeatureFile
from sf2cli.evaluation.finding import Task
from sf2cli.evaluation.pair_set import EncodedFaces, Faces, PairSet
from sf2cli.files import file_sha256

# Images looked at, evenly spread over the set.
_SAMPLE = 256
_MOST_READ = 200_000


def self_check(embedder: Embedder, protocols: Sequence[PairSet | Task]) -> list[str]:
    """A sentence for each thing that looks wrong, those of a set with its name in front."""
    found = run_warnings(embedder.card) + order_warnings(embedder)
    for protocol in protocols:
        faces = protocol.faces
        told = [
            *form_warnings(embedder.card, faces),
            *identity_warnings(embedder.card, faces),
            *image_warnings(embedder.card, faces),
        ]
        if isinstance(protocol, PairSet):
            name = protocol.name
            told += colour_warnings(embedder, protocol)
        else:
            name = protocol.origin.name
        found += [f"{name}: {warning}" for warning in told]
    # A set may be evaluated in several ways.
    return list(dict.fromkeys(found))


def run_warnings(card: EmbedderCard) -> list[str]:
    """Whether a run's training has gone on since its model was written."""
    steps = card.training.get("steps")
    saved = sorted((card.place / "checkpoints").glob("step-" + "[0-9]" * 8))
    if steps is None or not saved or int(saved[-1].name.removeprefix("step-")) <= steps:
        return []
    return [
        f"The model is of step {steps:,}, but the run has gone on to {saved[-1].name}: finish it"
        " with `sf2 train --resume`, or this is not its result."
    ]


def order_warnings(embedder: Embedder) -> list[str]:
    """Whether rows computed elsewhere go to the images by their order alone."""
    if not isinstance(embedder, FeatureFile) or embedder.places is not None:
        return []
    return [
        f"{embedder.card.place} does not name its rows' images: row 1 is taken for the first image"
        " of each set, and so on; in another order the numbers mean nothing (--keys FILE names"
        " them)."
    ]


def form_warnings(card: EmbedderCard, faces: Faces) -> list[str]:
    """Size, colours and alignment of the images against those of the model's training."""
    headers = []
    if isinstance(faces, EncodedFaces):
        for i in _spread(len(faces)):
            try:
                headers.append(read_header(faces.read(i)))
            except (BadImageError, Sf2Error):
                # It is named when it is decoded.
                return []
    found = []
    # Rows computed elsewhere do not say what their images were made into.
    if headers and card.kind != "features":
        sizes = {(header.height, header.width) for header in headers}
        size = card.image_size
        trained = tuple((card.training.get("images") or {}).get("size") or ())
        others = sizes - {(size, size), trained}
        if others:
            height, width = min(others)
            found.append(
                f"images of {width} x {height} are resized to the model's {size} x {size}, and not"
                " aligned; a model of aligned faces needs `sf2 pack --align` first."
            )
        grey = all(header.grey for header in headers)
        if grey and card.channels == 3 and _trained_colour(card) != "L":
            found.append("the images are grey; the model takes colours.")
        if not all(header.grey for header in headers) and card.channels == 1:
            found.append("the images have colours; the model sees them in grey.")
    here = _alignment(faces)
    there = card.training.get("alignment")
    if here is not None and there is not None and _template(here) != _template(there):
        found.append(
            f"its faces are aligned {_told(here)}, the model's training set was aligned"
            f" {_told(there)}."
        )
    return found


def identity_warnings(card: EmbedderCard, faces: Faces) -> list[str]:
    """People of the set who carry the name of one the model was trained on."""
    trained = trained_identities(card.place)
    if trained is None:
        return []
    sources = (faces.source(i) for i in range(len(faces)))
    names = sorted({source.rsplit("/", 1)[0] for source in sources if "/" in source})
    both = np.isin(name_hashes(names), trained)
    shared = [name for name, known in zip(names, both, strict=True) if known]
    if not shared:
        return []
    return [
        f"{len(shared)} of its {len(names)} identities have the name of one the model was trained"
        f" on ({first_few(shared)}): unless both sets merely count their people, the numbers are"
        " too good."
    ]


def image_warnings(card: EmbedderCard, faces: Faces) -> list[str]:
    """Images of the set that are in the training set, byte for byte, where that still is.

    Equal images have equal lengths, so only those of the lengths of a sample are read.
    """
    place = (card.training.get("recipe") or {}).get("data", {}).get("shards")
    if not place or not isinstance(faces, EncodedFaces):
        return []
    try:
        if file_sha256(Path(place) / "manifest.json") != card.training.get("manifest_sha256"):
            return []
        packed = PackedSet.open(Path(place))
        sample = {}
        for i in _spread(len(faces)):
            data = faces.read(i)
            sample[hashlib.sha256(data).digest()] = (faces.source(i), len(data))
        lengths = [length for _, length in sample.values()]
        alike = np.flatnonzero(np.isin(packed.sizes, lengths))[:_MOST_READ]
        known = {hashlib.sha256(packed.read(int(i))).digest() for i in alike}
    except (OSError, Sf2Error):
        # A training set that has moved or changed cannot be looked at.
        return []
    twice = [source for digest, (source, _) in sample.items() if digest in known]
    if not twice:
        return []
    return [
        f"{len(twice)} of {len(sample)} images looked at are in the training set"
        f" ({first_few(twice)}): this says nothing of new people."
    ]


def _spread(n: int) -> list[int]:
    """Up to _SAMPLE numbers below n, evenly spread."""
    return sorted({i * n // min(n, _SAMPLE) for i in range(min(n, _SAMPLE))})


def _trained_colour(card: EmbedderCard) -> str | None:
    colour: str | None = (card.training.get("images") or {}).get("colour")
    return colour


def _alignment(faces: Faces) -> Any:
    if isinstance(faces, Crops):
        return {"template": NAME}
    return faces.manifest.made_by.get("alignment") if isinstance(faces, PackedSet) else None


def _template(alignment: Any) -> Any:
    return alignment.get("template") if isinstance(alignment, dict) else alignment


def _told(alignment: Any) -> str:
    return f"to {alignment['template']}" if isinstance(alignment, dict) else str(alignment)
