"""report.json: every number, what it means, what it was counted on, and how it came about."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from sf2cli import __version__
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.evaluate import Evaluation
from sf2cli.evaluation.report.panel import JsonObject, Panel


def document(evaluation: Evaluation, panels: Sequence[Panel], argv: Sequence[str]) -> JsonObject:
    """The content of report.json; `argv` is the command line after `sf2`."""
    definitions: dict[str, str] = {}
    for panel in panels:
        definitions |= panel.definitions
    return {
        "format": "sf2-report",
        "version": 2,
        "model": model_entry(evaluation.card),
        "warnings": evaluation.warnings,
        "sets": [panel.entry for panel in panels],
        "definitions": definitions,
        "made_by": made_by(argv, evaluation.device),
    }


def made_by(argv: Sequence[str], device: str | None = None) -> dict[str, str]:
    """The command, when it was run, and by what; `device` is where a model ran, if one did."""
    told = {
        "command": shlex.join(["sf2", *argv]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sf2": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return told if device is None else {**told, "device": device}


def model_entry(card: EmbedderCard) -> dict[str, Any]:
    """What a JSON file says of the model."""
    return {
        "place": str(card.place),
        "kind": card.kind,
        "network": card.network,
        "embedding_size": card.embedding_size,
        "input": {
            "image_size": card.image_size,
            **card.preprocessing.model_dump(),
            "mirrored": card.mirrored,
        },
        "weights_sha256": card.sha256,
        "head": card.head,
    }
