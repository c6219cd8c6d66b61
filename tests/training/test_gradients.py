import math

import pytest
import torch

from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.training.gradients import head_gradient_norm


def test_a_bias_that_is_not_learnt_by_its_gradient_is_no_part_of_the_norm():
    head = ShardedHead(7, 4, SphereFace2(r=10.0, m=0.2), dtype=torch.float64)
    head.bias.data.fill_(3.0)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    head(features, torch.arange(6)).backward()
    rows = head.weight.grad.norm().item()
    assert abs(head.bias.grad.item()) > 0.01 * rows
    assert head_gradient_norm(head, learns_bias=False) == pytest.approx(rows)
    whole = math.hypot(rows, head.bias.grad.item())
    assert head_gradient_norm(head, learns_bias=True) == pytest.approx(whole)
