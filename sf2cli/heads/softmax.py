"""The margin softmax losses that SphereFace2 is compared with.

One softmax over the K classes of s cos_i, with a margin m on the class of the feature only:

    L = -log( e^(s h(cos_y)) / (e^(s h(cos_y)) + sum over i != y of e^(s cos_i)) )

    NormFace       h(z) = z                                   Wang et al. (ACM MM 2017)
    CosFace        h(z) = z - m                               Wang et al. (CVPR 2018)
    ArcFace        h(z) = cos(theta + m)                      Deng et al. (CVPR 2019)
    SphereFace     h(z) = (-1)^k cos(m theta) - 2k            Liu et al. (CVPR 2017)
    SphereFace-R   h(z) = cos(min(pi, m theta))               Liu et al. (T-PAMI 2022), v1
    AdaFace        h(z) = cos(theta - m q) - m (1 + q)        Kim, Jain, Liu (CVPR 2022)

with theta = arccos z, and k = floor(m theta / pi). Weights and features are both brought to unit
length inside the graph. ArcFace is taken as its authors' code has it without its "easy margin":
beyond the angle pi - m, where cos(theta + m) would rise again, h goes on as z - m sin m.
SphereFace and SphereFace-R are those of their authors' code, opensphere: features of unit length
times a scale, and h' taken as 1 ("characteristic gradient detachment"). AdaFace's q in [-1, 1] is
the sample's quality by the length of its feature: see `quality`.

With sub-centres (Deng et al., ECCV 2020) a class has several directions and cos_i is the cosine
with the nearest, so that a mislabelled sample may gather round one of its own. The paper's second
round, which drops the samples of the lesser centres and trains again, is left to `sf2 audit`.

`oracle_softmax_loss` is this written down, for autograd and tests; `margin_cos` and `margin_slope`
are h and h' for the sharded head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.heads.margins import margin_problem

Kind = Literal["normface", "cosface", "arcface", "sphereface", "sphereface_r", "adaface"]

_DETACHED = ("sphereface", "sphereface_r")
# sin^2 below which theta is taken as 0 or pi: the slope of cos(theta + m) has its pole there.
_MIN_SIN_SQUARED = 1e-12
# AdaFace keeps the shifted angle this far from 0 and pi.
_ADAFACE_EDGE = 1e-3


@dataclass(frozen=True)
class MarginSoftmax:
    """The hyper-parameters of the loss.

    Args:
        kind: where the margin is.
        margin: 0 for normface; > 0 for cosface (published: 0.35 and 0.4) and adaface (0.4);
            between 0 and pi, in radians, for arcface (0.5); a factor >= 1 on the angle for
            sphereface (1.5) and sphereface_r (1.4).
        scale: s, > 0; the published runs use 64, and 30 or 60 for sphereface and sphereface_r.
        loss_weight: constant factor on the loss; opensphere's SphereFace-R has 50 / s.
        interclass_filter: other classes whose cosine is above this are left out of the softmax, as
            perhaps the true class of a mislabelled sample (arcface_torch's filter for noisy sets,
            which puts their logits to 0 instead); 1 leaves none out.
        sub_centres: S, directions a class, 1 or more; 3 in the paper, with arcface.

    Raises:
        ValueError: a field has a value outside its range; the message names all three.
    """

    kind: Kind
    margin: float = 0.0
    scale: float = 64.0
    loss_weight: float = 1.0
    interclass_filter: float = 1.0
    sub_centres: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"MarginSoftmax.kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}"
            )
        for name, value in (("scale", self.scale), ("loss_weight", self.loss_weight)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"MarginSoftmax.{name} is {value!r}; expected a number > 0")
        if not 0 < self.interclass_filter <= 1:
            raise ValueError(
                f"MarginSoftmax.interclass_filter is {self.interclass_filter!r}; expected a cosine"
                " in (0, 1]"
            )
        if self.sub_centres < 1:
            raise ValueError(
                f"MarginSoftmax.sub_centres is {self.sub_centres!r}; expected 1 or more"
            )
        if expected := margin_problem(self.kind, self.margin):
            raise ValueError(
                f"MarginSoftmax.margin is {self.margin!r}; expected {expected} for {self.kind}"
            )


def margin_cos(cos: Tensor, hp: MarginSoftmax, quality: Tensor | None = None) -> Tensor:
    """h: the cosine of a feature with its own class, with the margin. Any shape, elementwise.

    Args:
        cos: of any shape.
        hp: the loss.
        quality: of the shape of `cos`, in [-1, 1]; for adaface, which needs it.
    """
    if hp.kind == "arcface":
        sin = (1 - cos * cos).clamp(min=_MIN_SIN_SQUARED).sqrt()
        shifted = cos * math.cos(hp.margin) - sin * math.sin(hp.margin)
        return torch.where(_rises(cos, hp), shifted, cos - hp.margin * math.sin(hp.margin))
    if hp.kind == "adaface":
        assert quality is not None
        shifted = torch.cos(_adaface_angle(cos, hp, quality))
        return shifted - hp.margin * (1 + quality)
    if hp.kind in _DETACHED:
        angle = hp.margin * torch.acos(cos.clamp(-1, 1))
        if hp.kind == "sphereface_r":
            return torch.cos(angle.clamp(max=math.pi))
        turns = (angle / math.pi).floor()
        return (1 - 2 * turns.remainder(2)) * torch.cos(angle) - 2 * turns
    return cos - hp.margin


def margin_slope(cos: Tensor, hp: MarginSoftmax, quality: Tensor | None = None) -> Tensor:
    """h'(cos), elementwise; finite also at cos = 1 and -1. Arguments as for `margin_cos`."""
    if hp.kind == "arcface":
        slope = math.cos(hp.margin) + math.sin(hp.margin) * _cotangent(cos)
        return torch.where(_rises(cos, hp), slope, 1)
    if hp.kind == "adaface":
        assert quality is not None
        shift = hp.margin * quality
        slope = torch.cos(shift) - torch.sin(shift) * _cotangent(cos)
        angle = torch.acos(cos.clamp(-1, 1)) - shift
        inside = (angle > _ADAFACE_EDGE) & (angle < math.pi - _ADAFACE_EDGE)
        return torch.where(inside, slope, 0)
    return torch.ones_like(cos)


def quality(norms: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """AdaFace's q of features by their lengths (its section 3.2, h = 0.333).

    Args:
        norms: lengths of the features, of any shape.
        mean: running mean of the lengths, scalar.
        std: running standard deviation, scalar.
    """
    return ((norms - mean) / (std + _ADAFACE_EDGE) * 0.333).clamp(-1, 1)


def _adaface_angle(cos: Tensor, hp: MarginSoftmax, quality: Tensor) -> Tensor:
    angle = torch.acos(cos.clamp(-1, 1)) - hp.margin * quality
    return angle.clamp(_ADAFACE_EDGE, math.pi - _ADAFACE_EDGE)


def _cotangent(cos: Tensor) -> Tensor:
    """Of theta; 0 at its poles."""
    sin_squared = 1 - cos * cos
    cotangent = cos * sin_squared.clamp(min=_MIN_SIN_SQUARED).rsqrt()
    return cotangent.masked_fill(sin_squared < _MIN_SIN_SQUARED, 0)


def _rises(cos: Tensor, hp: MarginSoftmax) -> Tensor:
    """Where cos(theta + m) still rises with cos(theta): theta < pi - m."""
    return cos > math.cos(math.pi - hp.margin)


def oracle_softmax_loss(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    hp: MarginSoftmax,
    quality: Tensor | None = None,
) -> Tensor:
    """The loss on plain tensors, a B x K matrix and autograd: what every fast path must equal.

    Args:
        features: [B, d], not normalised.
        weight: [K, S d], the S sub-centres of a class side by side, not normalised.
        labels: [B] int64 in [0, K).
        hp: the loss.
        quality: [B], for adaface.

    Returns:
        The scalar loss, the mean over the batch.
    """
    centres = F.normalize(weight.view(len(weight), hp.sub_centres, -1), dim=2)
    cos = torch.einsum("bd,ksd->bks", F.normalize(features), centres).max(2).values
    own = F.one_hot(labels, len(weight)).bool()
    shifted = margin_cos(cos, hp, None if quality is None else quality[:, None])
    if hp.kind in _DETACHED:
        shifted = cos + (shifted - cos).detach()
    others = cos
    if hp.interclass_filter < 1:
        others = cos.masked_fill(cos.detach() > hp.interclass_filter, -math.inf)
    loss: Tensor = F.cross_entropy(hp.scale * torch.where(own, shifted, others), labels)
    return hp.loss_weight * loss
