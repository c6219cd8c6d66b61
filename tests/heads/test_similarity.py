"""What the passes say about similarities, against a plain count over the whole matrix."""

import pytest
import torch
import torch.nn.functional as F

from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, g

# With this r, b is small enough that a few negatives of random features are above the boundary.
HP = SphereFace2(r=4.0, m=0.1)
CLASSES, WIDTH, BATCH = 53, 6, 12


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(BATCH, WIDTH, generator=generator)
    return features, torch.randint(0, CLASSES, (BATCH,), generator=generator)


def counted(weight, bias, features, labels):
    """The numbers from the whole matrix of cosines in float64; no sample is rejected."""
    cos = F.normalize(features.double()) @ weight.double().T
    own = F.one_hot(labels, len(weight)).bool()
    above = (HP.r * g(cos, HP.t) + bias.double() > 0).double()
    return [*(x[y].mean().item() for x in (cos, above) for y in (own, ~own)), 0.0]


def passes(**options):
    """What a head saw in two steps that moved nothing, and its rows and bias."""
    head = ShardedHead(CLASSES, WIDTH, HP, tile_size=7, **options)
    sgd = HeadSGD(head, 0.0)
    for seed in range(2):
        features, labels = batch(seed)
        sgd.one_pass(features.requires_grad_(), labels).backward()
    return head.similarities.take(), head.weight.detach(), head.bias.detach()


def expected(weight, bias):
    # Two passes of one size: their mean. The order is that of Similarity.
    return torch.tensor([counted(weight, bias, *batch(seed)) for seed in range(2)]).mean(0).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_similarities_are_those_of_the_whole_matrix(dtype):
    seen, weight, bias = passes(dtype=dtype)
    assert list(seen) == pytest.approx(expected(weight, bias), rel=1e-5)
    assert 0 < seen.negatives_above < 1


def test_sampled_negatives_estimate_those_of_all():
    head = ShardedHead(CLASSES, WIDTH, HP, negatives=0.3)
    sgd = HeadSGD(head, 0.0)
    features, labels = batch(0)
    for _ in range(400):
        sgd.one_pass(features.clone().requires_grad_(), labels)
    seen = head.similarities.take()
    whole = counted(head.weight.detach(), head.bias.detach(), features, labels)
    assert list(seen) == pytest.approx(whole, abs=0.01)


def test_nothing_seen_is_an_error():
    head = ShardedHead(CLASSES, WIDTH, HP)
    with pytest.raises(ValueError, match="no pass"):
        head.similarities.take()
