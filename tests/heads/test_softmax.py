"""The margin softmax losses against their definitions, and their slopes against autograd."""

import math

import pytest
import torch

from sf2cli.heads.softmax import (
    MarginSoftmax,
    margin_cos,
    margin_slope,
    oracle_softmax_loss,
    quality,
)

SETTINGS = [
    MarginSoftmax("normface", scale=16),
    MarginSoftmax("cosface", margin=0.4),
    MarginSoftmax("arcface", margin=0.5),
    MarginSoftmax("arcface", margin=2.0, scale=30),
    MarginSoftmax("sphereface", margin=1.5, scale=30),
    MarginSoftmax("sphereface", margin=4.0, scale=30),
    MarginSoftmax("sphereface_r", margin=1.4, scale=60, loss_weight=50 / 60),
    MarginSoftmax("adaface", margin=0.4),
]
# Of the nine samples below.
QUALITY = torch.linspace(-1, 1, 9, dtype=torch.float64)


def published_cos(cos, theta, hp, q):
    """h in one line of arithmetic for each loss."""
    m = hp.margin
    match hp.kind:
        case "cosface":
            return cos - m
        case "arcface":
            return math.cos(theta + m) if theta < math.pi - m else cos - m * math.sin(m)
        case "sphereface":
            k = math.floor(m * theta / math.pi)
            return (-1) ** k * math.cos(m * theta) - 2 * k
        case "sphereface_r":
            return math.cos(min(m, math.pi / theta) * theta)
        case "adaface":
            return math.cos(min(max(theta - m * q, 1e-3), math.pi - 1e-3)) - (m + m * q)
    return cos


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_oracle_is_the_published_formula(hp):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64) * 3
    weight = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 5
    losses = []
    for x, y, q in zip(features.tolist(), labels.tolist(), QUALITY.tolist(), strict=True):
        cosines = [
            sum(a * b for a, b in zip(x, w, strict=True)) / math.hypot(*x) / math.hypot(*w)
            for w in weight.tolist()
        ]
        cosines[y] = published_cos(cosines[y], math.acos(cosines[y]), hp, q)
        powers = [math.exp(hp.scale * cos) for cos in cosines]
        losses.append(-hp.loss_weight * math.log(powers[y] / sum(powers)))
    found = oracle_softmax_loss(features, weight, labels, hp, QUALITY)
    assert found.item() == pytest.approx(sum(losses) / 9, rel=1e-12)


def test_a_class_with_sub_centres_is_as_near_as_its_nearest():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 3 * 4, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 5
    several = MarginSoftmax("arcface", margin=0.5, sub_centres=3)
    found = oracle_softmax_loss(features, weight, labels, several)
    losses = []
    for x, y in zip(features, labels, strict=True):
        # Each class by its nearest centre alone is a class with one.
        nearest = [
            max(centres.view(3, 4), key=lambda w: float(torch.cosine_similarity(w, x, dim=0)))
            for centres in weight
        ]
        one = MarginSoftmax("arcface", margin=0.5)
        losses.append(oracle_softmax_loss(x[None], torch.stack(nearest), y[None], one))
    torch.testing.assert_close(found, torch.stack(losses).mean())


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_slope_is_the_derivative(hp):
    if hp.kind.startswith("sphereface"):
        assert (margin_slope(torch.linspace(-1, 1, 9), hp) == 1).all()
        return
    # acos has no derivative at the ends.
    edge = 1 - 1e-9 if hp.kind == "adaface" else 1
    cos = torch.linspace(-edge, edge, 2001, dtype=torch.float64, requires_grad=True)
    q = torch.linspace(-1, 1, 2001, dtype=torch.float64).roll(700)
    margin_cos(cos, hp, q).sum().backward()
    torch.testing.assert_close(margin_slope(cos.detach(), hp, q), cos.grad, rtol=1e-7, atol=1e-12)
    assert cos.grad.isfinite().all()


def test_quality_is_the_length_in_standard_deviations_times_a_third():
    lengths = torch.tensor([10.0, 20.0, 26.0, 1000.0])
    found = quality(lengths, torch.tensor(20.0), torch.tensor(9.999))
    torch.testing.assert_close(found, torch.tensor([-0.333, 0.0, 0.1998, 1.0]))


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_slope_is_finite_where_rounding_leaves_the_unit_interval(hp):
    beyond = 1 + 4 * torch.finfo(torch.float32).eps
    cos = torch.tensor([-beyond, -1, 1, beyond])
    q = torch.tensor([1.0, -1.0, 1.0, 0.0])
    assert margin_slope(cos, hp, q).isfinite().all()
    assert margin_cos(cos, hp, q).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "softmax"}, "kind is 'softmax'; expected one of normface, cosface, arcface"),
        ({"kind": "normface", "margin": 0.1}, "margin is 0.1; expected 0 for normface"),
        ({"kind": "cosface"}, "margin is 0.0; expected a number > 0 for cosface"),
        ({"kind": "cosface", "margin": math.inf}, "margin is inf"),
        ({"kind": "arcface", "margin": -0.5}, "margin is -0.5; expected an angle between 0 and pi"),
        ({"kind": "arcface", "margin": math.pi}, r"margin is 3\.14"),
        ({"kind": "sphereface", "margin": 0.9}, "margin is 0.9; expected a factor >= 1 for sphere"),
        ({"kind": "adaface", "margin": 0.0}, "margin is 0.0; expected a number > 0 for adaface"),
        (
            {"kind": "normface", "interclass_filter": 0.0},
            r"interclass_filter is 0\.0; expected a co",
        ),
        ({"kind": "normface", "sub_centres": 0}, "sub_centres is 0; expected 1 or more"),
        ({"kind": "normface", "loss_weight": 0.0}, "loss_weight is 0.0; expected a number > 0"),
        ({"kind": "normface", "scale": 0.0}, r"scale is 0\.0; expected a number > 0"),
        ({"kind": "normface", "scale": math.nan}, "scale is nan"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MarginSoftmax(**settings)
