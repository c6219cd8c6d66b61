"""The head and the optimiser that a recipe's head section asks for."""

from __future__ import annotations

import math

import torch

from sf2cli.head_recipe import SoftmaxRecipe, SphereFace2Recipe, UnifiedRecipe
from sf2cli.heads.curriculum import Curriculum
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.heads.softmax import MarginSoftmax
from sf2cli.heads.softmax_optimizer import SoftmaxSGD
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.state import Head, HeadOptimizer
from sf2cli.recipe import Recipe


def head_settings(recipe: Recipe) -> SphereFace2 | MarginSoftmax:
    """The recipe's head section as the loss that it means at the end of a run."""
    match recipe.head:
        case SphereFace2Recipe() as said:
            fields = ("variant", "lam", "r", "m", "t", "gradient", "loss_weight")
            return SphereFace2(**{field: getattr(said, field) for field in fields})
        case UnifiedRecipe() as said:
            # The weights 1 and w as lambda and 1 - lambda; r is taken out of the loss again.
            whole = 1 + said.negative_weight
            return SphereFace2(
                variant="U",
                lam=1 / whole,
                r=said.scale,
                m=said.margin,
                t=1.0,
                loss_weight=said.scale * whole,
            )
        case SoftmaxRecipe() as said:
            return MarginSoftmax(
                said.loss,
                said.margin,
                said.scale,
                said.loss_weight,
                said.interclass_filter,
                said.sub_centres,
            )


def build_head(
    recipe: Recipe,
    num_classes: int,
    device: torch.device,
    products: torch.dtype | None = None,
    loss: SphereFace2 | None = None,
) -> tuple[Head, HeadOptimizer]:
    """This rank's part of the head, over all ranks, and its optimiser.

    Args:
        products: what a run that goes on measured as the fastest when it began.
        loss: the loss to begin with, where it changes over the run.
    """
    said, size = recipe.head, recipe.backbone.embedding_size
    settings = recipe.optimizer
    sgd = (settings.lr, settings.momentum, settings.weight_decay)
    hp = head_settings(recipe)
    if isinstance(said, SoftmaxRecipe):
        assert isinstance(hp, MarginSoftmax)
        softmax = ShardedSoftmaxHead(
            num_classes, size, hp, device=device, seed=recipe.seed, sample_rate=said.sample_rate
        )
        return softmax, SoftmaxSGD(softmax, *sgd)
    assert isinstance(hp, SphereFace2)
    head = ShardedHead(
        num_classes,
        size,
        loss or hp,
        device=device,
        dtype=torch.bfloat16 if said.storage == "bf16" else torch.float32,
        products=products or (torch.float32 if recipe.precision == "fp32" else "fastest"),
        negatives=1.0 if said.negatives == "all" else said.negatives,
        seed=recipe.seed,
    )
    bias = said.bias if isinstance(said, SphereFace2Recipe) else "learned"
    return head, HeadSGD(head, *sgd, bias=bias)


class HeadSchedule:
    """What of a SphereFace2 head changes over a run: its scale and margin, and its filter.

    Args:
        planned_steps: the length that the run was begun with, whatever it was made since: the
            shares of the recipe are of this, so that a longer run does not go back in them.
    """

    def __init__(self, recipe: Recipe, planned_steps: int) -> None:
        said = recipe.head if isinstance(recipe.head, SphereFace2Recipe) else None
        grows = said.curriculum if said else None
        self._steps = planned_steps
        self._hp = head_settings(recipe)
        self._curriculum = Curriculum(**grows.model_dump()) if grows else Curriculum()
        self._filter = said.filter if said else None

    def loss(self, taken: int) -> SphereFace2 | None:
        """The loss of the step that follows `taken` others; None for a softmax, which has one."""
        if not isinstance(self._hp, SphereFace2):
            return None
        return self._curriculum.at(self._hp, min(taken / self._steps, 1.0))

    def apply(self, head: Head, taken: int) -> None:
        """Make `head` ready for the step that follows `taken` others."""
        if isinstance(head, ShardedHead):
            loss, progress = self.loss(taken), taken / self._steps
            assert loss is not None
            head.hp = loss
            if self._filter is not None and progress >= self._filter.after:
                head.reject_below = self._filter.below

    def __str__(self) -> str:
        """Where r and m go, in a few words; empty where they stay."""
        first, last = self.loss(0), self.loss(self._steps)
        if first is None or last is None or first == last:
            return ""
        over = f"over {math.ceil(self._curriculum.share * self._steps)} steps"
        grows = [f"r {first.r:g} to {last.r:g}"] if first.r != last.r else []
        grows += [f"m {first.m:g} to {last.m:g}"] if first.m != last.m else []
        return f"{' and '.join(grows)} {over}"
