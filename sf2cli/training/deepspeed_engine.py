"""Building the backbone's DeepSpeed engine: its optimiser, and none of its chatter."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe
from sf2cli.training.ds_config import for_deepspeed


def build_deepspeed(
    backbone: nn.Module, recipe: Recipe, ds_config: dict[str, Any], device: torch.device
) -> Any:
    """A DeepSpeed engine with ds.json's optimiser, or else the recipe's SGD.

    Raises:
        Sf2Error: DeepSpeed cannot build the optimiser.
    """
    config = for_deepspeed(ds_config, cuda=device.type == "cuda")
    trainable = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    settings = recipe.optimizer
    sgd = torch.optim.SGD(
        trainable,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    with quiet_deepspeed():
        import deepspeed

        # Its import has set up the logger, which writes to standard output.
        logger = logging.getLogger("DeepSpeed")
        logger.setLevel(logging.ERROR)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr)
        if not torch.cuda.is_available():
            # Its shared-memory collectives are compiled on first use and fault without AVX-512;
            # gloo carries the little a backbone needs. DeepSpeed keeps edits to this table.
            deepspeed.ops.__compatible_ops__ = {}
        try:
            engine, *_ = deepspeed.initialize(
                model=backbone,
                model_parameters=trainable,
                optimizer=None if "optimizer" in config else sgd,
                config=config,
            )
        except (TypeError, ValueError, AttributeError, ImportError) as failure:
            if "optimizer" not in config:
                raise
            raise Sf2Error(
                f"optimizer in ds.json: DeepSpeed cannot build {config['optimizer']['type']} with"
                f" {config['optimizer']['params']} here"
                f" ({' '.join(str(failure).split())[:300]})"
            ) from failure
    return engine


@contextmanager
def quiet_deepspeed() -> Iterator[None]:
    """Keep DeepSpeed's start-up chatter off standard output."""
    # DeepSpeed calls collectives by names that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    sys.stdout.flush()
    saved = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)
