"""The backbone under DeepSpeed and the head beside it: one optimiser step, explicitly.

The head is not DeepSpeed's: an engine broadcasts rank 0's copy of every parameter it owns, which
would overwrite the shards. So the loss is differentiated in two halves. The head's half ends at
the features and gives the head its gradients and the features theirs; the backbone's half gets
those as the gradient of a surrogate, sum(features * gradient), whose derivative is the same.
DeepSpeed's averaging then touches the backbone alone.

The head steps in its pass over the loss where nothing else has to be known first. With clipping,
loss scaling or accumulation both halves keep their gradients, and step or skip together.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import Preprocessing, normalise
from sf2cli.errors import Sf2Error
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.tiles import phase
from sf2cli.recipe import Recipe
from sf2cli.training.deepspeed_engine import build_deepspeed
from sf2cli.training.forward import checkpoint_units, compile_forward, fast_on_cpu, run_in
from sf2cli.training.gradients import (
    BackboneGradients,
    GradientNorms,
    head_gradient_norm,
    scale_head_gradient,
)
from sf2cli.training.head import HeadSchedule, build_head
from sf2cli.training.loss_scale import LossScale
from sf2cli.training.world import World


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

    Attributes:
        loss_scale: 1 but for fp16, where it also counts the steps that were skipped.
        gradient_norms: of the last step, before clipping; None where head and backbone step apart,
            for then nobody has to know.

    Args:
        backbone: from `new_backbone`, or with the weights to go on from already loaded: ZeRO
            builds its partitions from what it is given.
        ds_config: from `fill_ds_config`.
        planned_steps: see `head.HeadSchedule`.
        products: see `head.build_head`.

    Raises:
        Sf2Error: DeepSpeed cannot build the optimizer that ds.json names.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: nn.Module,
        ds_config: dict[str, Any],
        world: World,
        num_classes: int,
        planned_steps: int,
        products: torch.dtype | None = None,
    ) -> None:
        self._recipe = recipe
        self._device = world.device
        self._preprocessing = Preprocessing.for_channels(recipe.data.channels)
        self._micro_batch: int = ds_config["train_micro_batch_size_per_gpu"]
        self._accumulation: int = ds_config["gradient_accumulation_steps"]
        self._clipping: float = ds_config["gradient_clipping"]
        fp16: bool = ds_config["fp16"]["enabled"]
        self._together = fp16 or self._clipping > 0 or self._accumulation > 1
        self._may_skip = fp16
        if world.device.type == "cpu":
            fast_on_cpu(backbone)
        if recipe.backbone.activation_checkpointing:
            checkpoint_units(backbone)
        if recipe.backbone.compile:
            compile_forward(backbone)
        run_in(backbone, recipe.precision, world.device)
        self.deepspeed = build_deepspeed(backbone, recipe, ds_config, world.device)
        self._gradients = BackboneGradients(self.deepspeed) if self._together else None
        self._base_rates = [group["lr"] for group in self.deepspeed.optimizer.param_groups]
        self.loss_scale = LossScale(ds_config["fp16"])
        self.gradient_norms: GradientNorms | None = None
        self.planned_steps = planned_steps
        self.head_schedule = HeadSchedule(recipe, planned_steps)
        self.head, self.head_optimizer = build_head(
            recipe, num_classes, world.device, products, self.head_schedule.loss(0)
        )

    @property
    def backbone(self) -> nn.Module:
        module: nn.Module = self.deepspeed.module
        return module

    @property
    def head_in_one_call(self) -> bool:
        """Whether one compiled call takes the head's whole step; see `heads.fused`."""
        head, batch = self.head, self._recipe.batch_size
        return isinstance(head, ShardedHead) and not self._together and bool(head.fused(batch))

    @property
    def skipped(self) -> bool:
        """Whether a step was ever left out that no loss scale could have saved.

        ZeRO does so where the backbone's gradient is not finite; the head may then have stepped
        without the backbone.
        """
        return not self._may_skip and bool(self.deepspeed.skipped_steps or self.loss_scale.skipped)

    @property
    def left_out(self) -> bool:
        """Whether fp16 left out the last step, its gradient not being finite, as it may."""
        return self._may_skip and self.loss_scale.skipped_in_a_row > 0

    def prepare(self, lr: float, taken: int) -> None:
        """What the step that follows `taken` others is taken with: learning rate and head's loss.

        The backbone's is the same, or where ds.json names its optimiser and a rate for it, in the
        same proportion to that rate as `lr` to the recipe's.
        """
        share = lr / self._recipe.optimizer.lr
        groups = self.deepspeed.optimizer.param_groups
        for group, rate in zip(groups, self._base_rates, strict=True):
            group["lr"] = rate * share
        self.head_optimizer.lr = lr
        self.head_schedule.apply(self.head, taken)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimiser step on this rank's part of the batch.

        Args:
            images: uint8 [B, C, H, W]; B is micro batch x accumulation steps.
            labels: int64 [B], global class ids.

        Returns:
            The loss over the global batch, a scalar that is the same on every rank.

        Raises:
            Sf2Error: fp16 has left out `optimizer.max_skipped` steps in a row.
        """
        self.deepspeed.train()
        total = torch.zeros((), device=self._device)
        images, labels = images.to(self._device, non_blocking=True), labels.to(self._device)
        pieces = list(
            zip(images.split(self._micro_batch), labels.split(self._micro_batch), strict=True)
        )
        for left, (piece, ids) in zip(reversed(range(len(pieces))), pieces, strict=True):
            with phase("forward"):
                features = self.deepspeed(self._prepare(piece))
            loss = self._head_half(features, ids)
            total += loss.detach().to(total.dtype)
            with phase("optimizer"):
                if self._gradients is None or left:
                    self.deepspeed.step()
                else:
                    self._step_together(self._gradients)
        return total

    def _head_half(self, features: Tensor, labels: Tensor) -> Tensor:
        cut = features.detach().float().requires_grad_()
        loss: Tensor
        with phase("head"):
            if self._together:
                loss = self.head(cut, labels) / self._accumulation
            else:
                loss = self.head_optimizer.one_pass(cut, labels)
            loss.backward()
        assert cut.grad is not None
        with phase("backward"):
            # The head's half already carries 1/accumulation.
            surrogate = (features.float() * cut.grad.mul_(self.loss_scale.value)).sum()
            self.deepspeed.backward(surrogate, scale_wrt_gas=False)
        return loss

    def _step_together(self, backbone: BackboneGradients) -> None:
        """Step or skip, head and backbone alike; every rank decides the same."""
        scale = self.loss_scale.value
        learns_bias = (
            isinstance(self.head_optimizer, HeadSGD) and self.head_optimizer.bias_rule == "learned"
        )
        head_norm = head_gradient_norm(self.head, learns_bias=learns_bias)
        norms = GradientNorms(backbone.norm() / scale, head_norm)
        self.gradient_norms = norms
        finite = math.isfinite(norms.total)
        self.loss_scale.update(finite)
        if finite:
            factor = 1.0
            if self._clipping:
                # torch.nn.utils.clip_grad_norm_ adds the same 1e-6.
                factor = min(1.0, self._clipping / (norms.total + 1e-6))
            backbone.step(factor / scale)
            scale_head_gradient(self.head, factor)
            self.head_optimizer.step()
        else:
            backbone.drop()
        self.head_optimizer.zero_grad()
        in_a_row = self.loss_scale.skipped_in_a_row
        if self._may_skip and in_a_row >= self._recipe.optimizer.max_skipped:
            parts = [part for part in norms._fields if not math.isfinite(getattr(norms, part))]
            raise Sf2Error(
                f"fp16 has skipped {in_a_row} steps in a row: the gradient of the"
                f" {' and the '.join(parts)} is not finite, with a loss scale of {scale:g} in the"
                " last of them",
                "Lower optimizer.lr, lengthen the warm-up, or take precision bf16; a higher"
                " fp16.initial_scale_power needs a higher optimizer.max_skipped.",
            )

    def _prepare(self, images: Tensor) -> Tensor:
        return laid_out(normalise(images, self._preprocessing), self._recipe.channels_last)


def laid_out(images: Tensor, channels_last: bool) -> Tensor:
    """Images [B, C, H, W] in the memory layout that torch's kernels are to take."""
    if channels_last:
        return images.contiguous(memory_format=torch.channels_last)
    # Grey images have both layouts at once, and torch goes by strides: these are the plain ones.
    return images.flatten(1).view(images.shape)
