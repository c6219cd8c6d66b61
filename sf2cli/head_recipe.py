"""The recipe's head section: which loss, its hyper-parameters, and how the head is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sf2cli.section import Section


class CurriculumRecipe(Section):
    """r, and m if it is given, start here and grow linearly over the first `share` of the steps;
    see `heads.curriculum`."""

    r: float = Field(10.0, gt=0)
    m: float | None = Field(None, ge=0)
    share: float = Field(0.4, gt=0, le=1)


class FilterRecipe(Section):
    """Leave out samples that their own classifier gives a probability of less than `below`, after
    the first `after` of the steps: as mislabelled."""

    below: float = Field(gt=0, lt=1)
    after: float = Field(0.5, ge=0, lt=1)


class SphereFace2Recipe(Section):
    """SphereFace2's hyper-parameters, and how the head is kept; defaults as for VGGFace2, but for
    the bias and the curriculum.

    `bias` is "balanced", or "learned" by SGD as published; without `curriculum` r and m are
    constant, as published. `storage` is the type of rows and momentum: bf16 halves both and rounds
    stochastically. `negatives` is "all", or the share of them to train on in each step.
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
        if self.variant == "M" and self.m < 1:
            raise ValueError(f"m is {self.m}; variant M takes a factor of 1 or more, as 1.7")
        grows = self.curriculum.m if self.curriculum else None
        if self.variant == "M" and grows is not None and grows < 1:
            raise ValueError(f"curriculum.m is {grows}; variant M takes a factor of 1 or more")
        if self.curriculum and self.bias == "learned":
            raise ValueError(
                "curriculum needs bias: balanced, since SGD on the bias cannot follow a growing r;"
                " say curriculum: null with bias: learned"
            )
        return self


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
        factor = self.loss in ("sphereface", "sphereface_r")
        fits, expected = {
            "normface": (self.margin == 0, "0"),
            "arcface": (0 < self.margin < 3.14, "an angle between 0 and pi"),
        }.get(
            self.loss,
            (self.margin >= 1, "a factor of 1 or more")
            if factor
            else (self.margin > 0, "a number above 0"),
        )
        if not fits:
            raise ValueError(f"margin is {self.margin}; {self.loss} takes {expected}")
        return self


def _with_loss(value: Any) -> Any:
    """A head without a loss is SphereFace2's."""
    return {"loss": "sphereface2", **value} if isinstance(value, dict) else value


HeadRecipe = Annotated[
    Annotated[SphereFace2Recipe | UnifiedRecipe | SoftmaxRecipe, Field(discriminator="loss")],
    BeforeValidator(_with_loss),
]
