"""bfloat16 rows and momentum: as good as float32, and only because they are rounded stochastically.

The planted problem: identities have known directions on the sphere, and their samples are those
directions plus noise. A head learns the directions back; its held-out cosine (of a fresh sample
with the row of its identity) and held-out loss say how well.
"""

import pytest
import torch
import torch.nn.functional as F

from sf2cli.errors import Sf2Error
from sf2cli.heads.kernels import CppKernels
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.state import load_head
from tests.heads.saving import save_head

HP = SphereFace2(r=30.0, m=0.3)


class NearestKernels(CppKernels):
    """What bfloat16 storage would be without stochastic rounding."""

    def update(self, weight, momentum, grad, first, step):
        exact, buffer = weight.float(), momentum.float()
        super().update(exact, buffer, grad, first, step)
        weight.copy_(exact)
        momentum.copy_(buffer)


def train_on_planted(identities, width, batch, epochs, lr, dtype, kernels=None, negatives=1.0):
    """Held-out (cosine, loss) after training a head on planted identities."""
    generator = torch.Generator().manual_seed(4)
    centres = F.normalize(torch.randn(identities, width, generator=generator))

    def samples(labels):
        noise = torch.randn(len(labels), width, generator=generator)
        return centres[labels] + 0.8 * width**-0.5 * noise

    head = ShardedHead(identities, width, HP, dtype=dtype, negatives=negatives)
    head.kernels = kernels or head.kernels
    sgd = HeadSGD(head, lr, weight_decay=0.0)
    for _ in range(epochs):
        for labels in torch.randperm(identities, generator=generator).split(batch):
            sgd.one_pass(samples(labels), labels)
    labels = torch.randperm(identities, generator=generator)[: 4 * batch]
    held_out = samples(labels)
    with torch.no_grad():
        loss = head(held_out, labels).item()
        cosine = (F.normalize(held_out) * head.weight[labels].float()).sum(1).mean().item()
    return cosine, loss


def check_planted(learnt, **problem):
    exact_cosine, exact_loss = train_on_planted(**problem, dtype=torch.float32)
    cosine, loss = train_on_planted(**problem, dtype=torch.bfloat16)
    stuck_cosine, stuck_loss = train_on_planted(
        **problem, dtype=torch.bfloat16, kernels=NearestKernels()
    )
    print(f"cosine, loss: float32 {exact_cosine:.4f}, {exact_loss:.5f};"
          f" bfloat16 {cosine:.4f}, {loss:.5f}; rounded to nearest {stuck_cosine:.4f},"
          f" {stuck_loss:.5f}")  # fmt: skip
    assert exact_cosine > learnt
    assert cosine == pytest.approx(exact_cosine, rel=0.01)
    assert loss == pytest.approx(exact_loss, rel=0.01)
    assert stuck_cosine < 0.97 * exact_cosine or stuck_loss > 1.03 * exact_loss


def test_bfloat16_learns_what_float32_does_thanks_to_its_rounding():
    check_planted(0.5, identities=1_000, width=64, batch=128, epochs=60, lr=0.05)


@pytest.mark.slow
def test_bfloat16_learns_100_thousand_identities():
    # A twentieth of the negatives in each step, for time; the held-out loss has all of them.
    check_planted(
        0.25, identities=100_000, width=64, batch=1_024, epochs=20, lr=0.4, negatives=0.05
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("momentum", "negatives"), [(0.9, 1.0), (0.0, 1.0), (0.9, 0.3)])
def test_a_saved_head_goes_on_as_it_would_have(tmp_path, dtype, momentum, negatives):
    def new():
        head = ShardedHead(50, 16, HP, dtype=dtype, seed=3, negatives=negatives)
        return head, HeadSGD(head, 0.1, momentum=momentum)

    def take_step(sgd):
        generator = torch.Generator().manual_seed(sgd.steps)
        labels = torch.randint(0, 50, (8,), generator=generator)
        return sgd.one_pass(torch.randn(8, 16, generator=generator), labels)

    head, sgd = new()
    assert (sgd.weight_momentum is None) == (momentum == 0)
    for _ in range(3):
        take_step(sgd)
    save_head(tmp_path, head, sgd)
    saved = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    per_value = head.weight.element_size() * (2 if momentum else 1)
    assert 0 <= saved - 50 * 16 * per_value < 1024
    again, again_sgd = new()
    load_head(tmp_path, again, again_sgd)
    assert take_step(again_sgd) == take_step(sgd)
    torch.testing.assert_close(again.weight, head.weight, rtol=0, atol=0)
    assert again_sgd.steps == 4


def test_momentum_that_was_not_saved_is_not_made_up(tmp_path):
    head = ShardedHead(5, 4, HP)
    save_head(tmp_path, head, HeadSGD(head, 0.1, momentum=0.0))
    with pytest.raises(Sf2Error, match="saved without momentum"):
        load_head(tmp_path, head, HeadSGD(head, 0.1))


def test_bfloat16_products_come_from_a_measurement():
    head = ShardedHead(5, 4, HP, dtype=torch.bfloat16)
    assert head.products in (torch.float32, torch.bfloat16)
    assert ShardedHead(5, 4, HP).products == torch.float32
    assert head.bias.dtype == torch.float32
