"""The margin softmax losses that SphereFace2 is compared with: NormFace, CosFace, ArcFace.

One softmax over the K classes of s cos_i, with a margin m on the class of the feature only:

    L = -log( e^(s h(cos_y)) / (e^(s h(cos_y)) + sum over i != y of e^(s cos_i)) )

    NormFace  h(z) = z                      Wang, Xiang, Cheng, Yuille (ACM MM 2017)
    CosFace   h(z) = z - m                  Wang et al. (CVPR 2018)
    ArcFace   h(z) = cos(arccos z + m)      Deng, Guo, Xue, Zafeiriou (CVPR 2019)

Weights and features are both brought to unit length inside the graph. ArcFace is taken as its
authors' code has it without its "easy margin": beyond the angle pi - m, where cos(theta + m) would
rise again, h goes on as z - m sin m.

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

Kind = Literal["normface", "cosface", "arcface"]

# sin^2 below which theta is taken as 0 or pi: the slope of cos(theta + m) has its pole there.
_MIN_SIN_SQUARED = 1e-12


@dataclass(frozen=True)
class MarginSoftmax:
    """The hyper-parameters of the loss.

    Args:
        kind: where the margin is: nowhere, on the cosine, or on the angle of the feature's class.
        margin: 0 for normface; > 0 for cosface (published: 0.35 and 0.4); between 0 and pi, in
            radians, for arcface (published: 0.5).
        scale: s, > 0; the published runs use 64.

    Raises:
        ValueError: a field has a value outside its range; the message names all three.
    """

    kind: Kind
    margin: float = 0.0
    scale: float = 64.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"MarginSoftmax.kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"MarginSoftmax.scale is {self.scale!r}; expected a number > 0")
        fits, expected = {
            "normface": (self.margin == 0, "0"),
            "cosface": (0 < self.margin < math.inf, "a number > 0"),
            "arcface": (0 < self.margin < math.pi, "an angle between 0 and pi, both excluded,"),
        }[self.kind]
        if not fits:
            raise ValueError(
                f"MarginSoftmax.margin is {self.margin!r}; expected {expected} for {self.kind}"
            )


def margin_cos(cos: Tensor, hp: MarginSoftmax) -> Tensor:
    """h: the cosine of a feature with its own class, with the margin. Any shape, elementwise."""
    if hp.kind != "arcface":
        return cos - hp.margin
    sin = (1 - cos * cos).clamp(min=_MIN_SIN_SQUARED).sqrt()
    shifted = cos * math.cos(hp.margin) - sin * math.sin(hp.margin)
    return torch.where(_rises(cos, hp), shifted, cos - hp.margin * math.sin(hp.margin))


def margin_slope(cos: Tensor, hp: MarginSoftmax) -> Tensor:
    """h'(cos), elementwise; finite also at cos = 1 and -1."""
    if hp.kind != "arcface":
        return torch.ones_like(cos)
    sin_squared = 1 - cos * cos
    cotangent = cos * sin_squared.clamp(min=_MIN_SIN_SQUARED).rsqrt()
    cotangent = cotangent.masked_fill(sin_squared < _MIN_SIN_SQUARED, 0)
    shifted = math.cos(hp.margin) + math.sin(hp.margin) * cotangent
    return torch.where(_rises(cos, hp), shifted, 1)


def _rises(cos: Tensor, hp: MarginSoftmax) -> Tensor:
    """Where cos(theta + m) still rises with cos(theta): theta < pi - m."""
    return cos > math.cos(math.pi - hp.margin)


def oracle_softmax_loss(
    features: Tensor, weight: Tensor, labels: Tensor, hp: MarginSoftmax
) -> Tensor:
    """The loss on plain tensors, a B x K matrix and autograd: what every fast path must equal.

    Args:
        features: [B, d], not normalised.
        weight: [K, d], not normalised.
        labels: [B] int64 in [0, K).

    Returns:
        The scalar loss, the mean over the batch.
    """
    cos = F.normalize(features) @ F.normalize(weight).T
    own = F.one_hot(labels, len(weight)).bool()
    return F.cross_entropy(hp.scale * torch.where(own, margin_cos(cos, hp), cos), labels)
