"""The recipe's head section: which loss, its hyper-parameters, and how the head is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sf2cli.heads.margins import margin_problem
from sf2cli.section import Section


class CurriculumRecipe(Section):
    """r, and m if it is given, start here and grow linearly over the first `share` of the steps;
    see `heads.curriculum`. The steps are those that the run had before it when it began, whatever
    a resume makes of `schedule`."""

    r: float = Field(10.0, gt=0)
    m: float | None = Field(None, ge=0)
    share: float = Field(0.4, gt=0, le=1)


class FilterRecipe(Section):
    """Leave out samples that their own classifier gives a probability of less than `below`, after
    the first `after` of the steps that the run had before it when it began: as mislabelled."""

    below: float = Field(gt=0, lt=1)
    after: float = Field(0.5, ge=0, lt=1)


class SphereFace2Recipe(Section):
    """SphereFace2's hyper-parameters, and how the head is kept; defaults as for VGGFace2, but for
    the bias and the curriculum.

    `bias` is "balanced", or "learned" by SGD as published; without `curriculum` r and m are
    constant, as published, and that is the default where `start` names another run. `storage` is
    the type of rows and momentum: bf16 halves both and rounds stochastically. `negatives` is "all",
    or the share of them to train on in each step.
    """

    loss: Literal["sphereface2"] = "sphereface2"
    variant: Literal["C", "A", "M"] = "C"
    lam: float = Field(0.7, gt=0, lt=1, alias="lambda")
    r: float = Field(40.0, gt=0)
    m: float = Field(0.4, ge=0)
    t: float = Field(3.0, ge=1)
    gradient: Literal["full", "detached"] = "full"
    loss_weight: float = Field(10.0, gt=0)
    bias: Literal["balanced", "learned"] = "balanced"
    curriculum: CurriculumRecipe | None = CurriculumRecipe()
    filter: FilterRecipe | None = None
    storage: Literal["fp32", "bf16"] = "fp32"
    negatives: Literal["all"] | Annotated[float, Field(gt=0, le=1)] = "all"

    @model_validator(mode="after")
    def _fits(self) -> SphereFace2Recipe:
        if expected := margin_problem(self.variant, self.m):
            raise ValueError(f"m is {self.m}; variant {self.variant} takes {expected}")
        if self.curriculum and self.bias == "learned":
            raise ValueError(
                "curriculum needs bias: balanced, since SGD on the bias cannot follow a growing r;"
                " say curriculum: null with bias: learned"
            )
        if self.curriculum:
            self._check_growth(self.curriculum)
        return self

    def _check_growth(self, start: CurriculumRecipe) -> None:
        if start.r > self.r:
            raise ValueError(
                f"curriculum.r is {start.r:g}, from where r could not grow to head.r {self.r:g};"
                " give curriculum.r at most that, or curriculum: null"
            )
        if start.m is None:
            return
        if expected := margin_problem(self.variant, start.m):
            raise ValueError(
                f"curriculum.m is {start.m:g}; variant {self.variant} takes {expected}"
            )
        if start.m > self.m:
            raise ValueError(
                f"curriculum.m is {start.m:g}, from where m could not grow to head.m {self.m:g};"
                " give curriculum.m at most that, or leave it out"
            )


class UnifiedRecipe(Section):
    """UniFace's unified cross-entropy: binary classifiers with one threshold. `negative_weight` is
    the factor on the negatives."""

    loss: Literal["uce"]
    scale: float = Field(64.0, gt=0)
    margin: float = Field(0.4, ge=0)
    negative_weight: float = Field(1.0, gt=0)
    storage: Literal["fp32", "bf16"] = "fp32"
    negatives: Literal["all"] | Annotated[float, Field(gt=0, le=1)] = "all"


class SoftmaxRecipe(Section):
    """A margin softmax; see `heads.softmax` for each `loss`, its margin and its filter.
    `sample_rate` below 1 draws a part of the classes in each step, as Partial FC does.
    `sub_centres` is how many directions a class has, of which the nearest counts."""

    loss: Literal["normface", "cosface", "arcface", "sphereface", "sphereface_r", "adaface"]
    scale: float = Field(64.0, gt=0)
    margin: float = Field(0.0, ge=0)
    loss_weight: float = Field(1.0, gt=0)
    interclass_filter: float = Field(1.0, gt=0, le=1)
    sample_rate: float = Field(1.0, gt=0, le=1)
    sub_centres: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _margin_fits(self) -> SoftmaxRecipe:
        if expected := margin_problem(self.loss, self.margin):
            raise ValueError(f"margin is {self.margin}; {self.loss} takes {expected}")
        return self


def _with_loss(value: Any) -> Any:
    """A head without a loss is SphereFace2's."""
    return {"loss": "sphereface2", **value} if isinstance(value, dict) else value


HeadRecipe = Annotated[
    Annotated[SphereFace2Recipe | UnifiedRecipe | SoftmaxRecipe, Field(discriminator="loss")],
    BeforeValidator(_with_loss),
]
