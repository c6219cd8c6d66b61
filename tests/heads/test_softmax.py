"""The margin softmax losses against their definitions, and their slopes against autograd."""

import math

import pytest
import torch

from sf2cli.heads.softmax import MarginSoftmax, margin_cos, margin_slope, oracle_softmax_loss

SETTINGS = [
    MarginSoftmax("normface", scale=16),
    MarginSoftmax("cosface", margin=0.4),
    MarginSoftmax("arcface", margin=0.5),
    MarginSoftmax("arcface", margin=2.0, scale=30),
]


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_oracle_is_the_published_formula(hp):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64) * 3
    weight = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 5
    losses = []
    for x, y in zip(features.tolist(), labels.tolist(), strict=True):
        cosines = [
            sum(a * b for a, b in zip(x, w, strict=True)) / math.hypot(*x) / math.hypot(*w)
            for w in weight.tolist()
        ]
        theta = math.acos(cosines[y])
        if hp.kind == "cosface":
            cosines[y] -= hp.margin
        elif hp.kind == "arcface" and theta < math.pi - hp.margin:
            cosines[y] = math.cos(theta + hp.margin)
        elif hp.kind == "arcface":
            cosines[y] -= hp.margin * math.sin(hp.margin)
        powers = [math.exp(hp.scale * cos) for cos in cosines]
        losses.append(-math.log(powers[y] / sum(powers)))
    found = oracle_softmax_loss(features, weight, labels, hp)
    assert found.item() == pytest.approx(sum(losses) / 9, rel=1e-12)


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_slope_is_the_derivative(hp):
    cos = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    margin_cos(cos, hp).sum().backward()
    torch.testing.assert_close(margin_slope(cos.detach(), hp), cos.grad, rtol=1e-12, atol=0)
    assert cos.grad.isfinite().all()


@pytest.mark.parametrize("hp", SETTINGS, ids=str)
def test_slope_is_finite_where_rounding_leaves_the_unit_interval(hp):
    beyond = 1 + 4 * torch.finfo(torch.float32).eps
    cos = torch.tensor([-beyond, -1, 1, beyond])
    assert margin_slope(cos, hp).isfinite().all()
    assert margin_cos(cos, hp).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "softmax"}, "kind is 'softmax'; expected one of normface, cosface, arcface"),
        ({"kind": "normface", "margin": 0.1}, "margin is 0.1; expected 0 for normface"),
        ({"kind": "cosface"}, "margin is 0.0; expected a number > 0 for cosface"),
        ({"kind": "cosface", "margin": math.inf}, "margin is inf"),
        ({"kind": "arcface", "margin": -0.5}, "margin is -0.5; expected an angle between 0 and pi"),
        ({"kind": "arcface", "margin": math.pi}, r"margin is 3\.14"),
        ({"kind": "normface", "scale": 0.0}, r"scale is 0\.0; expected a number > 0"),
        ({"kind": "normface", "scale": math.nan}, "scale is nan"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MarginSoftmax(**settings)
