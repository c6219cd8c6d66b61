"""`sf2 export` from its options to the written folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from sf2cli.backbones.published import load_published
from sf2cli.backbones.saved import BackboneCard, Preprocessing, load_model, trained_mirrored
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.calibration import readings
from sf2cli.evaluation.report.document import made_by
from sf2cli.evaluation.report.write import check_folder, write_files
from sf2cli.export.onnx_file import INPUT, OUTPUT, to_onnx
from sf2cli.export.snippet import EMBEDDINGS, snippet

ONNX_NAME, WEIGHTS_NAME = "model.onnx", "model.safetensors"
ABOUT_NAME, CARD_NAME, SNIPPET_NAME = "export.json", "README.md", "embed.py"
_NAMES = (ONNX_NAME, WEIGHTS_NAME, ABOUT_NAME, CARD_NAME, SNIPPET_NAME)


@dataclass(frozen=True)
class Exported:
    """Where the files are; the greatest difference of ONNX and torch over the largest feature."""

    folder: Path
    bytes: dict[str, int]
    difference: float


@dataclass(frozen=True)
class _Model:
    module: nn.Module
    backbone: BackboneCard
    preprocessing: Preprocessing
    head: dict[str, Any]
    training: dict[str, Any]


def run_export(model: Path, out: Path | None, *, overwrite: bool, argv: Sequence[str]) -> Exported:
    """Write a model as ONNX and plain safetensors, with a card and a script that uses it.

    Args:
        model: a run or model folder, or weights in InsightFace's or opensphere's names.
        out: the folder; None is `export` in a run folder, MODEL-export beside any other model.
        overwrite: whether an earlier export there may be replaced.
        argv: the command line, for the card.

    Raises:
        Sf2Error: what the user must mend; nothing is written then.
    """
    folder = out or _default_folder(model)
    check_folder(folder, _NAMES, overwrite=overwrite, held="an export is")
    found = _load(model)
    size, channels = found.backbone.image_size, found.backbone.channels
    graph, difference = to_onnx(found.module, size, channels)
    about = {
        "network": found.backbone.name,
        "embedding_size": found.backbone.embedding_size,
        "input": {"image_size": size, **found.preprocessing.model_dump()},
        "head": found.head,
        "training": found.training,
        "onnx": {"input": INPUT, "output": OUTPUT, "difference_to_torch": difference},
        "made_by": made_by(argv, "cpu"),
    }
    state = {name: value.contiguous() for name, value in found.module.state_dict().items()}
    trained = readings(found.head, prior=0.5)
    files: dict[str, str | bytes] = {
        ONNX_NAME: graph,
        WEIGHTS_NAME: save(state, metadata={"network": found.backbone.name, "format": "pt"}),
        ABOUT_NAME: json.dumps(about, indent=2, ensure_ascii=False) + "\n",
        SNIPPET_NAME: snippet(
            size,
            found.preprocessing,
            trained[0] if trained else None,
            mirrored=trained_mirrored(found.training),
        ),
    }
    files[CARD_NAME] = _card(model, found, difference, files)
    write_files(folder, files)
    return Exported(folder, {name: len(_bytes(files[name])) for name in _NAMES}, difference)


def _load(model: Path) -> _Model:
    kind = model.suffix.lower()
    if kind in (".npy", ".npz", ".onnx") and model.is_file():
        held = "is an ONNX file already" if kind == ".onnx" else "holds features, not a network"
        raise Sf2Error(f"MODEL {model}: {held}", "Name the run or the weights that it came from.")
    if model.is_file():
        published = load_published(model)
        usual = Preprocessing.for_channels(published.backbone.channels)
        return _Model(published.module, published.backbone, usual, {}, {})
    module, card = load_model(model)
    return _Model(module, card.backbone, card.preprocessing, card.head, card.training)


def _default_folder(model: Path) -> Path:
    if (model / "model").is_dir():
        return model / "export"
    named = model if model.name not in ("", "..") else model.resolve()
    return named.with_name(f"{named.name}-export")


def _card(model: Path, found: _Model, difference: float, files: dict[str, str | bytes]) -> str:
    """The model card, in Markdown."""
    made, size = found.preprocessing, found.backbone.image_size
    colour = "grey" if made.colour == "L" else made.colour
    names = {
        ONNX_NAME: f"float [batch, {made.channels}, {size}, {size}] to features; within"
        f" {difference:.1g} of torch",
        WEIGHTS_NAME: "the tensors, fp32",
        ABOUT_NAME: "all of this, for programs",
        SNIPPET_NAME: "compares two images with onnxruntime",
    }
    rows = "\n".join(
        f"| `{name}` | {what} | `{hashlib.sha256(_bytes(files[name])).hexdigest()}` |"
        for name, what in names.items()
    )
    return f"""# {model.resolve().name}

A face-recognition model: {found.backbone.name}, {found.backbone.embedding_size} dimensions.

- Input: {size} x {size} {colour}, a pixel p as (p - {made.mean:g}) / {made.scale:g}; cropped and
  aligned as the training images were ({_alignment(found)}).
- Embedding: {EMBEDDINGS[trained_mirrored(found.training)]}. Compare embeddings by their cosine.
{_trained(found)}
| file | what it is | sha256 |
|---|---|---|
{rows}

    python embed.py a.png b.png

What it gets right on whom is not known from this card: evaluate it on people like those it is to
be used on (`sf2 eval`), and do not identify people who have not agreed to it.
"""


def _alignment(found: _Model) -> str:
    alignment = found.training.get("alignment")
    if isinstance(alignment, dict):
        return str(alignment.get("template"))
    return str(alignment or "unknown to this card")


def _trained(found: _Model) -> str:
    head = found.head
    if not head:
        return ""
    facts = [f"loss {head.get('loss')}", f"{head.get('num_classes')} identities"]
    if "steps" in found.training:
        facts.append(f"{found.training['steps']} steps")
    lines = [f"- Training: {', '.join(facts)}; every setting is in `{ABOUT_NAME}`."]
    if trained := readings(head, prior=0.5):
        reading = trained[0]
        lines.append(
            f"- Two images of cosine s show one person with the probability sigmoid({reading.r:g}"
            f" (2 ((s + 1) / 2)^{reading.t:g} - 1) + {reading.bias:.4g}), as the loss has it."
        )
    return "\n".join(lines) + "\n"


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
