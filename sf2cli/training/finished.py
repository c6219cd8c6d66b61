"""What a run leaves when it is done: the model, and on its card where it came from."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from sf2cli.backbones.saved import save_model
from sf2cli.heads.state import Head
from sf2cli.training.restore import Settings


def write_model(
    folder: Path, weights: dict[str, Tensor], head: Head, settings: Settings, steps: int
) -> None:
    """Write the backbone's `weights` as a model; the first rank's.

    Raises:
        Sf2Error: the disk refuses.
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
            **({} if head.bias is None else {"bias": head.bias.item()}),
            "num_classes": head.num_classes,
        },
        training={
            "recipe": recipe.model_dump(mode="json", by_alias=True),
            "manifest_sha256": settings.manifest_sha256,
            "images": manifest.image.model_dump(mode="json"),
            "alignment": manifest.made_by.get("alignment"),
            "world_size": dist.get_world_size(),
            "steps": steps,
        },
        identities=manifest.identities,
    )
