"""The SphereFace2 loss: K binary classifiers on the unit hypersphere.

Wen, Liu, Weller, Raj, Singh: "SphereFace2: Binary Classification is All You Need for Deep Face
Recognition" (ICLR 2022), and the authors' code, github.com/ydwen/opensphere. For a feature of
class y, with lambda, r, m, t and one bias b shared by all classes (paper Eq. 5, variant C):

    L =      lambda / r * softplus(-(r (g(cos_y) - m) + b))
      + (1 - lambda) / r * sum over i != y of softplus(r (g(cos_i) + m) + b)

    g(z) = 2 ((z + 1) / 2)^t - 1

Variants A and M put the margin on the positive's angle instead, g(cos(theta_y + m)) and
g(cos(m theta_y)), and give the negatives none. Variant U takes it from the positive's g alone: with
t = 1, lambda = 1 / (1 + w) and a loss weight of r (1 + w) that is the unified cross-entropy with
its negatives weighted by w (Zhou et al.: "UniFace", ICCV 2023), whose threshold is -b.

`oracle_loss` is this written down, for autograd and tests. `negatives` and `positives` are its
two halves with their derivatives in closed form, which is what the tiles use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.heads.margins import margin_problem

Variant = Literal["C", "A", "M", "U"]
Gradient = Literal["full", "detached"]


@dataclass(frozen=True)
class SphereFace2:
    """The hyper-parameters of the loss.

    Args:
        variant: where the margin is: C on every cosine, A added to the positive's angle,
            M multiplied with it, U on the positive's cosine.
        lam: weight lambda of the one positive against the sum of the negatives, in (0, 1).
        r: scale of the cosines, > 0.
        m: margin; >= 0 in g-space (C, U) or radians (A), a factor >= 1 (M). The authors use 0.4
            for C (0.5 with r = 64), 0.5 for A, 1.7 for M.
        t: exponent of g, >= 1.
        gradient: "full" differentiates g (the formula as published; branch SphereFace2_ICLR21 for
            C); "detached" takes g'(z) as 1 (the official main branch, and all official A and M
            code). The derivative of A's and M's angular margin is left out either way, as in the
            published r g(cos) + r Detach(g(cos with margin) - g(cos)) + b.
        loss_weight: constant factor on the loss (`lw` in the official configs: 10 for VGGFace2,
            50 for MS1M).

    Raises:
        ValueError: a field has a value outside its range; the message names all three.
    """

    variant: Variant = "C"
    lam: float = 0.7
    r: float = 40.0
    m: float = 0.4
    t: float = 3.0
    gradient: Gradient = "full"
    loss_weight: float = 10.0

    def __post_init__(self) -> None:
        _expect("variant", self.variant, self.variant in get_args(Variant), "one of C, A, M, U")
        _expect("gradient", self.gradient, self.gradient in get_args(Gradient), "full or detached")
        _expect_number("lam", self.lam, 0 < self.lam < 1, "a number between 0 and 1, both excluded")
        _expect_number("r", self.r, self.r > 0, "a number > 0")
        _expect_number("t", self.t, self.t >= 1, "a number >= 1")
        _expect_number("loss_weight", self.loss_weight, self.loss_weight > 0, "a number > 0")
        expected = margin_problem(self.variant, self.m)
        _expect("m", self.m, expected is None, f"{expected} for variant {self.variant}")

    @property
    def positive_margin(self) -> float:
        """What is taken from the positive's g: m in C and U."""
        return self.m if self.variant in ("C", "U") else 0.0

    @property
    def negative_margin(self) -> float:
        """What is added to the negatives' g: m in C."""
        return self.m if self.variant == "C" else 0.0


def _expect(field: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"SphereFace2.{field} is {value!r}; expected {expected}")


def _expect_number(field: str, value: float, holds: bool, expected: str) -> None:
    _expect(field, value, holds and math.isfinite(value), expected)


def g(cos: Tensor, t: float) -> Tensor:
    """The similarity adjustment 2 ((cos + 1) / 2)^t - 1, elementwise (paper Eq. 4).

    The base is clamped at 0: rounding can give cos < -1, and a negative base to a power that is
    not whole is nan.
    """
    return 2 * ((cos + 1) / 2).clamp(min=0) ** t - 1


def g_slope(cos: Tensor, hp: SphereFace2) -> Tensor | float:
    """g'(cos), or 1 where the gradient is detached from g."""
    if hp.gradient == "detached":
        return 1.0
    return hp.t * ((cos + 1) / 2).clamp(min=0) ** (hp.t - 1)


def margin_cos(cos: Tensor, hp: SphereFace2) -> Tensor:
    """The positive's cosine with the angular margin of A or M; itself in C and U. Any shape."""
    if hp.variant in ("C", "U"):
        return cos
    theta = torch.acos(cos.clamp(-1, 1))
    theta = theta + hp.m if hp.variant == "A" else theta * hp.m
    return torch.cos(theta.clamp(max=math.pi))


def softplus(u: Tensor) -> Tensor:
    """log(1 + e^u) without overflow, to the last digit also in float64 (torch's default is not)."""
    return F.softplus(u, threshold=40.0)


def initial_bias(hp: SphereFace2, num_classes: int) -> float:
    """The b at which one positive pulls as hard as all negatives push when every cosine is 0.

    The root of lambda sigma(-(a_y + b)) = (1 - lambda)(K - 1) sigma(a_i + b), with a_y and a_i
    the scaled similarities of positive and negative at 90 degrees without b (paper appendix G).
    The official code's form cancels for z > 1, that is for few classes; this takes the other
    form of the same root there. One class alone has no negative to balance and gets the bias of
    two. Variant U starts as its authors' code does, at -ln(10 K).

    Raises:
        ValueError: num_classes < 1.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; expected 1 or more")
    if hp.variant == "U":
        return -math.log(10 * num_classes)
    right_angle = torch.zeros((), dtype=torch.float64)
    a_y = hp.r * (float(g(margin_cos(right_angle, hp), hp.t)) - hp.positive_margin)
    a_i = hp.r * (float(g(right_angle, hp.t)) + hp.negative_margin)
    z = hp.lam / ((1 - hp.lam) * max(num_classes - 1, 1))
    root = math.hypot(1 - z, 2 * math.sqrt(z) * math.exp((a_y - a_i) / 2))
    if z > 1:
        return math.log(z - 1 + root) - math.log(2) - a_y
    return math.log(2 * z) - a_i - math.log(1 - z + root)


def oracle_loss(
    features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, hp: SphereFace2
) -> Tensor:
    """The loss on plain tensors, a B x K matrix and autograd: what every fast path must equal.

    Args:
        features: [B, d], not normalised.
        weight: [K, d], rows of unit length: the official code renormalises them outside the graph.
        bias: scalar.
        labels: [B] int64 in [0, K).

    Returns:
        The scalar loss, a mean over the batch of the sum over the K classifiers.
    """
    cos = F.normalize(features) @ weight.T
    positive = F.one_hot(labels, len(weight)).bool()
    similarity = g(cos, hp.t)
    carrier = similarity if hp.gradient == "full" else cos
    target = torch.where(
        positive,
        g(margin_cos(cos.detach(), hp), hp.t) - hp.positive_margin,
        similarity.detach() + hp.negative_margin,
    )
    logits = hp.r * (carrier + (target - carrier).detach()) + bias
    losses = torch.where(positive, hp.lam * softplus(-logits), (1 - hp.lam) * softplus(logits))
    return hp.loss_weight / hp.r * losses.sum(1).mean()


class Part(NamedTuple):
    """One half of the loss per entry, without `loss_weight` and the mean over the batch.

    All three have the shape of the cosines: the loss, its derivative by the cosine, and its
    derivative by the bias.
    """

    loss: Tensor
    grad_cos: Tensor
    grad_bias: Tensor


def negatives(cos: Tensor, bias: Tensor | float, hp: SphereFace2) -> Part:
    """What classifiers make of features of other classes, with its derivatives in closed form.

    Args:
        cos: float32 or float64, any shape.
        bias: a scalar.
    """
    logits = hp.r * (g(cos, hp.t) + hp.negative_margin) + bias
    factor = (1 - hp.lam) / hp.r
    push = torch.sigmoid(logits) * factor
    return Part(softplus(logits) * factor, push * hp.r * g_slope(cos, hp), push)


def positives(cos: Tensor, bias: Tensor | float, hp: SphereFace2) -> Part:
    """What classifiers make of features of their own class, with its derivatives in closed form.

    Args:
        cos: float32 or float64, any shape.
        bias: a scalar.
    """
    logits = hp.r * (g(margin_cos(cos, hp), hp.t) - hp.positive_margin) + bias
    factor = hp.lam / hp.r
    pull = torch.sigmoid(-logits) * -factor
    return Part(softplus(-logits) * factor, pull * hp.r * g_slope(cos, hp), pull)
