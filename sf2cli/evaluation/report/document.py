"""report.json: every number, what it means, what it was counted on, and how it came about."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from sf2cli import __version__
from sf2cli.backbones.saved import ModelCard
from sf2cli.evaluation.evaluate import MODEL, PIXELS, Evaluation, Result

JsonObject = dict[str, Any]


def document(evaluation: Evaluation, argv: Sequence[str]) -> JsonObject:
    """The content of report.json; `argv` is the command line after `sf2`."""
    return {
        "format": "sf2-report",
        "version": 1,
        "model": {
            "folder": str(evaluation.model),
            "weights_sha256": evaluation.card.weights_sha256,
            "backbone": evaluation.card.backbone.model_dump(),
            "head": evaluation.card.head,
        },
        "sets": [_set(result) for result in evaluation.results],
        "definitions": definitions(evaluation.card),
        "made_by": {
            "command": shlex.join(["sf2", *argv]),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "sf2": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": evaluation.device,
        },
    }


def _set(result: Result) -> JsonObject:
    pairs = result.pairs
    return {
        "name": pairs.name,
        "protocol": pairs.protocol,
        "source": str(pairs.source),
        "data_sha256": pairs.data_sha256,
        "data_sha256_of": pairs.hashed,
        "images": len(pairs.faces),
        "identities": pairs.identities,
        "genuine": pairs.genuine,
        "impostor": pairs.impostor,
        "folds": pairs.folds,
        "results": {name: asdict(scored.found) for name, scored in result.scored.items()},
        "notes": result.notes,
        "credit": pairs.credit,
    }


def definitions(card: ModelCard) -> dict[str, str]:
    """What each word and number of a report means, by its name."""
    backbone, made = card.backbone, card.preprocessing
    colour = "grey" if backbone.channels == 1 else "RGB"
    size = f"{backbone.image_size} x {backbone.image_size}"
    return {
        MODEL: (
            "f(x) + f(x mirrored left to right), scaled to unit length. f is the backbone; x is the"
            f" image resized to {size} {colour} without cropping, each pixel p as"
            f" (p - {made.mean:g}) / {made.scale:g}."
        ),
        PIXELS: (
            "The baseline that needs no model: the pixels themselves as the embedding. The same"
            f" image at {size} {colour}, its values 0 ... 255 as one vector, scaled to unit length."
            " Neither mirrored nor centred."
        ),
        "pairs": "A genuine pair shows one identity twice, an impostor pair two identities.",
        "similarity": "The cosine of two embeddings. A pair is accepted at a threshold t if its"
        " similarity is t or more.",
        "FAR": "False accept rate: the share of impostor pairs that are accepted.",
        "TAR": "True accept rate: the share of genuine pairs that are accepted.",
        "TAR at FAR": (
            "TAR at the lowest threshold whose FAR does not exceed the target; nothing is"
            " interpolated. Not given if the target is less than one of the impostor pairs. In"
            " report.json, accepted_impostors of all impostors are accepted at that threshold."
        ),
        "EER": (
            "Equal error rate: the FAR at which FAR = 1 - TAR, on the ROC joined by straight lines."
            " Its threshold is the highest similarity at which FAR is not yet below 1 - TAR."
        ),
        "AUC": (
            "Area under the ROC: the chance that a genuine pair is more similar than an impostor"
            " pair, ties counted half."
        ),
        "accuracy": (
            "Share of pairs told right: mean ± population standard deviation over ten folds. Each"
            " fold is judged at the threshold that is best on the nine others, taken from 0, 0.01,"
            " ... 3.99 on the squared distance 2 - 2 x similarity. The folds are contiguous runs of"
            " the list; for all pairs of a set they are drawn by a fixed seed, each kind of pair"
            " spread evenly."
        ),
    }
