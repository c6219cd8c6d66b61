"""The backbone under DeepSpeed and the head beside it: one optimiser step, explicitly.

The head is not DeepSpeed's: an engine broadcasts rank 0's copy of every parameter it owns, which
would overwrite the shards. So the loss is differentiated in two halves. The head's half ends at
the features and gives the head its gradients and the features theirs; the backbone's half gets
those as the gradient of a surrogate, sum(features * gradient), whose derivative is the same.
DeepSpeed's scaling and averaging then touch the backbone alone.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.recipe import Recipe
from sf2cli.training.world import World


def head_settings(recipe: Recipe) -> SphereFace2:
    """The recipe's head section as the head's own settings."""
    values = recipe.head.model_dump(exclude={"loss", "storage", "negatives"})
    return SphereFace2(**values)


def head_storage(recipe: Recipe, products: torch.dtype | None = None) -> dict[str, Any]:
    """How the recipe's head is kept and computed, as arguments of `ShardedHead`.

    Args:
        products: what a run that goes on measured as the fastest when it began.
    """
    dtype = torch.bfloat16 if recipe.head.storage == "bf16" else torch.float32
    chosen = products or (torch.float32 if recipe.precision == "fp32" else "fastest")
    negatives = 1.0 if recipe.head.negatives == "all" else recipe.head.negatives
    return {"dtype": dtype, "products": chosen, "negatives": negatives}


def new_backbone(recipe: Recipe) -> nn.Module:
    """The recipe's backbone with initial weights that depend on the recipe's seed alone.

    Raises:
        Sf2Error: an unknown name or sizes the backbone does not accept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build_backbone(
            recipe.backbone.name,
            embedding_size=recipe.backbone.embedding_size,
            image_size=recipe.data.image_size,
            channels=recipe.data.channels,
        )


class TrainingEngine:
    """Backbone, head and their optimisers; `step` takes one optimiser step.

    Args:
        backbone: from `new_backbone`, or with the weights to go on from already loaded: ZeRO
            builds its partitions from what it is given.
        ds_config: from `fill_ds_config`.
        products: see `head_storage`.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: nn.Module,
        ds_config: dict[str, Any],
        world: World,
        num_classes: int,
        products: torch.dtype | None = None,
    ) -> None:
        self._channels_last = recipe.channels_last
        self._device = world.device
        self._preprocessing = Preprocessing.for_channels(recipe.data.channels)
        self._micro_batch: int = ds_config["train_micro_batch_size_per_gpu"]
        self._accumulation: int = ds_config["gradient_accumulation_steps"]
        settings = recipe.optimizer
        # Only the input is laid out channels_last: DeepSpeed broadcasts weights as bytes and
        # refuses strided ones; convolutions follow their input.
        optimizer = torch.optim.SGD(
            [parameter for parameter in backbone.parameters() if parameter.requires_grad],
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.deepspeed = _initialize_deepspeed(backbone, optimizer, ds_config)
        self.head = ShardedHead(
            num_classes,
            recipe.backbone.embedding_size,
            head_settings(recipe),
            device=world.device,
            **head_storage(recipe, products),
            seed=recipe.seed,
        )
        self.head_optimizer = HeadSGD(
            self.head,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    @property
    def backbone(self) -> nn.Module:
        module: nn.Module = self.deepspeed.module
        return module

    @property
    def skipped(self) -> bool:
        """Whether DeepSpeed ever left the backbone as it was, its gradient not being finite.

        ZeRO 2 and 3 look for that; the head has then stepped without the backbone.
        """
        return bool(self.deepspeed.skipped_steps)

    def set_lr(self, lr: float) -> None:
        """The learning rate of the next step, for backbone and head."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr
        self.head_optimizer.lr = lr

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimiser step on this rank's part of the batch.

        Args:
            images: uint8 [B, C, H, W]; B is micro batch x accumulation steps.
            labels: int64 [B], global class ids.

        Returns:
            The loss over the global batch, a scalar that is the same on every rank.
        """
        self.deepspeed.train()
        total = torch.zeros((), device=self._device)
        pieces = zip(images.split(self._micro_batch), labels.split(self._micro_batch), strict=True)
        for piece, ids in pieces:
            features = self.deepspeed(self._prepare(piece))
            loss = self._head_half(features, ids.to(self._device))
            total += loss.detach().to(total.dtype)
            self.deepspeed.step()
        if self._accumulation > 1:
            self.head_optimizer.step()
            self.head_optimizer.zero_grad()
        return total

    def _head_half(self, features: Tensor, labels: Tensor) -> Tensor:
        cut = features.detach().float().requires_grad_()
        loss: Tensor
        if self._accumulation > 1:
            loss = self.head(cut, labels) / self._accumulation
        else:
            loss = self.head_optimizer.one_pass(cut, labels)
        loss.backward()
        assert cut.grad is not None
        surrogate = (features.float() * cut.grad).sum()
        # The head's half already carries 1/accumulation.
        self.deepspeed.backward(surrogate, scale_wrt_gas=False)
        return loss

    def _prepare(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        floats = normalise(images.to(self._device, non_blocking=True), self._preprocessing)
        return floats.contiguous(memory_format=layout)


def _initialize_deepspeed(
    backbone: nn.Module, optimizer: torch.optim.Optimizer, ds_config: dict[str, Any]
) -> Any:
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
        engine, *_ = deepspeed.initialize(model=backbone, optimizer=optimizer, config=ds_config)
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
