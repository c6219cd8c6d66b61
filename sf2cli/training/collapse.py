"""Telling that a run has collapsed: every image is as similar to all identities as to its own.

A head that tells nobody apart can still choose its bias, and the least loss that it has so is known
(`heads.blind`). A run that learns falls below it before its similarities part. Where the steps are
too large for the slope of r g(cos), rows and features are thrown about, all cosines become alike
and the bias wanders after them: the loss stays above that of knowing nothing. Warm-up, and the
small r that a curriculum starts with, are slow, but they do not do worse than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sf2cli.head_recipe import SoftmaxRecipe, UnifiedRecipe
from sf2cli.heads.blind import blind_loss
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.recipe import Recipe

# Of 56 runs on characters the 47 that learnt came to at most 1.00 of the blind loss while
# similarities were alike, warm-up over; the 9 that collapsed to 1.05 and more, but for a short one.
_STEPS = 50
_ALIKE = 0.1
_TIMES = 1.05
# What `advice` names and a run may change when it goes on.
REMEDIES = ("optimizer.lr", "head.loss_weight")


@dataclass(frozen=True)
class _Seen:
    step: int
    loss: float
    positive: float
    negative: float
    bias: float
    hp: SphereFace2


class CollapseWatch:
    """Looks at a run's steps, 50 at a time, once the warm-up and the first 50 are over.

    It tells of a collapse once, and rests then.

    Args:
        recipe: the run's.
        num_classes: K.
    """

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self._recipe = recipe
        self._num_classes = num_classes
        self._after = max(recipe.schedule.warmup_steps, _STEPS)
        self._window: list[_Seen] = []
        self._told = False

    def rest(self) -> None:
        """Tell nothing: it was told before the run was resumed."""
        self._told = True

    def begin_anew(self, step: int) -> None:
        """Look again, for the run goes on from `step` with a remedy: once 50 steps are over."""
        self._told = False
        self._after = max(self._after, step + _STEPS)

    def see(self, step: int, loss: float, values: Mapping[str, float], hp: object) -> str | None:
        """What to tell the user after this step, at most once; None if there is nothing.

        Args:
            step: its number from 1.
            loss: of the global batch.
            values: of `Meter.read`.
            hp: the head's loss as the step had it; a softmax is not watched.
        """
        names = ("positive_similarity", "negative_similarity", "bias")
        if not isinstance(hp, SphereFace2) or not all(name in values for name in names):
            return None
        if self._told or step <= self._after:
            return None
        own, others, bias = (values[name] for name in names)
        self._window.append(_Seen(step, loss, own, others, bias, hp))
        if len(self._window) < _STEPS:
            return None
        window, self._window = self._window, []
        return self._judge(window)

    def _judge(self, window: list[_Seen]) -> str | None:
        own, others, loss = (
            sum(getattr(seen, name) for seen in window) / len(window)
            for name in ("positive", "negative", "loss")
        )
        if own - others >= _ALIKE:
            return None
        # Where r grows it does so evenly.
        middle = window[len(window) // 2].hp
        blind = blind_loss(middle, self._num_classes, self._recipe.backbone.embedding_size)
        if loss <= _TIMES * blind:
            return None
        self._told = True
        biases = [seen.bias for seen in window]
        return (
            f"the run has collapsed: in steps {window[0].step} to {window[-1].step} images are as"
            f" similar to all other identities as to their own (mean cosines {others:.3f} and"
            f" {own:.3f}), the loss is {loss:.4g} where a head that tells nobody apart has"
            f" {blind:.4g}, and the bias went between {min(biases):.3g} and {max(biases):.3g}."
            f" {advice(self._recipe)}"
        )


def advice(recipe: Recipe) -> str:
    """What to change in a recipe whose run has collapsed, with the values found there."""
    rate, said = f"optimizer.lr ({recipe.optimizer.lr:g})", recipe.head
    assert not isinstance(said, SoftmaxRecipe)
    if isinstance(said, UnifiedRecipe):
        return f"Start again with a lower {rate} or head.scale ({said.scale:g})."
    lower = f"Start again with a lower {rate} or head.loss_weight ({said.loss_weight:g})"
    if said.curriculum is None:
        return (
            f"{lower}, or let r grow: head.bias balanced and a head.curriculum (here: {said.bias},"
            " none)."
        )
    grows = said.curriculum
    return (
        f"{lower}, or a slower curriculum: a larger head.curriculum.share ({grows.share:g}) or a"
        f" smaller head.curriculum.r ({grows.r:g})."
    )
