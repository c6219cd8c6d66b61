"""A run's backbone as a model folder that `sf2 eval` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sf2cli.backbones.saved import save_model
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.state import Head
from sf2cli.training.restore import Settings


def write_model(
    folder: Path,
    weights: dict[str, Tensor],
    settings: Settings,
    head: Head,
    training: dict[str, Any],
) -> None:
    """Write it whole or not at all; by one rank.

    Args:
        weights: of `gather_weights`.
        training: where the model came from, beside the recipe; JSON values.

    Raises:
        Sf2Error: the disk refuses, or a weight is not the backbone's.
    """
    recipe, manifest = settings.recipe, settings.packed.manifest
    save_model(
        folder,
        weights,
        backbone={
            "name": recipe.backbone.name,
            "embedding_size": recipe.backbone.embedding_size,
            "image_size": recipe.data.image_size,
            "channels": recipe.data.channels,
        },
        head={
            **recipe.head.model_dump(by_alias=True),
            **_in_force(head),
            **({} if head.bias is None else {"bias": head.bias.item()}),
            "num_classes": head.num_classes,
        },
        training={
            "recipe": recipe.model_dump(mode="json", by_alias=True),
            "manifest_sha256": settings.manifest_sha256,
            "images": manifest.image.model_dump(mode="json"),
            "alignment": manifest.made_by.get("alignment"),
            **training,
        },
        identities=manifest.identities,
    )


def _in_force(head: Head) -> dict[str, float]:
    """Scale and margin as the last step had them, which a curriculum may still have been raising:
    the bias is in balance with these."""
    if not isinstance(head.hp, SphereFace2) or head.hp.variant == "U":
        return {}
    return {"r": head.hp.r, "m": head.hp.m}
