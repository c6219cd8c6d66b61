"""The loss of a head that tells nobody apart, against the oracle on directions drawn at random."""

import pytest
import torch
import torch.nn.functional as F

from sf2cli.heads.blind import blind_loss
from sf2cli.heads.sphereface2 import SphereFace2, oracle_loss


@pytest.mark.parametrize(
    ("hp", "classes"),
    [
        (SphereFace2(r=40.0, m=0.4), 1000),
        (SphereFace2(r=10.0, m=0.4), 1000),
        (SphereFace2(variant="A", m=0.5, r=30.0), 50),
        (SphereFace2(variant="U", lam=0.5, r=32.0, m=0.4, t=1.0, loss_weight=64.0), 300),
        (SphereFace2(), 1),
    ],
    ids=["C", "small r", "A", "U", "one class"],
)
def test_it_is_the_least_over_the_bias_of_random_features_and_rows(hp, classes):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(512, 128, generator=generator, dtype=torch.float64)
    rows = F.normalize(torch.randn(classes, 128, generator=generator, dtype=torch.float64))
    labels = torch.randint(0, classes, (512,), generator=generator)
    found = blind_loss(hp, classes, 128)
    if classes == 1:
        assert found == pytest.approx(0.0, abs=1e-9)
        return
    losses = [
        oracle_loss(features, rows, torch.tensor(bias, dtype=torch.float64), labels, hp).item()
        for bias in torch.linspace(-50, 20, 281).tolist()
    ]
    assert found == pytest.approx(min(losses), rel=0.02)
