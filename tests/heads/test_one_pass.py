"""The one-pass step against the oracle, against the unfused step, and on several ranks."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.errors import Sf2Error
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias, oracle_loss
from tests.spawn import run_ranks

HP = SphereFace2(r=30.0, m=0.3)
# What takes the fused step where the processor has it: float32, and no tile size asked for.
FUSED = {"width": 64, "dtype": torch.float32, "tile_size": None}


def batches(steps, batch, width, classes, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        features = torch.randn(batch, width, generator=generator, dtype=dtype)
        yield features, torch.randint(0, classes, (batch,), generator=generator)


def test_float32_follows_the_oracle_for_20_steps():
    classes, width, steps = 10_000, 64, 20
    head = ShardedHead(classes, width, HP)
    sgd = HeadSGD(head, 0.5)
    assert head.kernels.name == "c++"
    weight = torch.nn.Parameter(head.weight.detach().double())
    bias = torch.nn.Parameter(head.bias.detach().double())
    reference = torch.optim.SGD([weight, bias], 0.5, momentum=0.9, weight_decay=5e-4)
    start = weight.detach().clone()
    for features, labels in batches(steps, 48, width, classes):
        exact = features.double().requires_grad_()
        expected = oracle_loss(exact, weight, bias, labels, HP)
        reference.zero_grad()
        expected.backward()
        reference.step()
        weight.data = F.normalize(weight.data)
        features.requires_grad_()
        loss = sgd.one_pass(features, labels)
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        scale = exact.grad.abs().max().item()
        torch.testing.assert_close(features.grad.double(), exact.grad, rtol=0, atol=1e-5 * scale)
    moved = (weight.detach() - start).norm()
    assert moved > 1
    assert (head.weight.detach().double() - weight.detach()).norm() < 1e-5 * moved
    assert head.bias.item() == pytest.approx(bias.item(), rel=1e-5)


def _steps(one_pass, classes=11, width=8, **options):
    """Losses, feature gradients, rows and momentum of this rank, the bias, and the similarities
    seen, after three steps on 6 samples."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    head = ShardedHead(classes, width, HP, **{"dtype": torch.float64, "tile_size": 3, **options})
    sgd = HeadSGD(head, 0.1)
    own = slice(rank * 6 // world, (rank + 1) * 6 // world)
    losses, grads = [], []
    # Only the first classes occur, so that the last rank owns no positive.
    for features, labels in batches(3, 6, width, min(2, classes), dtype=torch.float64):
        part = features[own].clone().requires_grad_()
        if one_pass:
            loss = sgd.one_pass(part, labels[own])
            loss.backward()
        else:
            loss = head(part, labels[own])
            loss.backward()
            sgd.step()
            sgd.zero_grad()
        losses.append(loss.item())
        grads.append((part.grad / world).numpy())
    rows = head.weight.detach().double().numpy()
    momentum, seen = sgd.weight_momentum.double().numpy(), head.similarities.take()
    return losses, np.stack(grads), rows, momentum, head.bias.item(), seen


def test_one_pass_equals_forward_backward_step():
    for fused, unfused in zip(_steps(True), _steps(False), strict=True):
        np.testing.assert_allclose(fused, unfused, rtol=1e-12, atol=1e-15)


def _each_size():
    return {classes: _steps(True, classes) for classes in (1, 2, 11)}, {
        classes: _steps(True, classes, **FUSED) for classes in (2, 300)
    }


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_step_as_one_process_does(world):
    ranks = run_ranks(world, _each_size)
    for exact, of_ranks in zip(_each_size(), zip(*ranks, strict=True), strict=True):
        precision = 1e-10 if exact.keys() == {1, 2, 11} else 2e-5
        for classes, (losses, grads, rows, momentum, bias, seen) in exact.items():
            found = [rank[classes] for rank in of_ranks]
            for part in found:
                assert part[0] == pytest.approx(losses, rel=precision)
                assert part[4] == pytest.approx(bias, rel=precision)
                assert part[5] == pytest.approx(seen, rel=precision, nan_ok=True)
            together = [np.concatenate([part[i] for part in found]) for i in (2, 3)]
            near = {"rtol": 10 * precision, "atol": precision / 10_000}
            np.testing.assert_allclose(together[0], rows, **near)
            np.testing.assert_allclose(together[1], momentum, **near)
            joined = np.concatenate([part[1] for part in found], axis=1)
            np.testing.assert_allclose(joined, grads, **near)


def test_tiles_of_any_size_make_the_same_step():
    whole = _steps(True, tile_size=11)
    for tile_size in (1, 4, 100):
        for found, expected in zip(_steps(True, tile_size=tile_size), whole, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def _gradients(head, features, labels, draw):
    """The full gradient by W, features and bias that one pass with this draw stands for."""
    grad_weight = torch.zeros_like(head.weight, requires_grad=False)

    def keep(tile, grad):
        grad_weight[tile.where] = grad

    done = head.run(features, labels, keep, draw)
    return torch.cat([grad_weight.flatten(), done.grad_unit.flatten(), done.grad_bias[None]])


def test_sampled_gradients_average_to_the_full_one():
    classes, draws = 40, 4000
    features, labels = next(iter(batches(1, 6, 8, classes, dtype=torch.float64)))
    options = {"dtype": torch.float64, "tile_size": 4}
    full = _gradients(ShardedHead(classes, 8, HP, **options), features, labels, 0)
    head = ShardedHead(classes, 8, HP, negatives=0.3, **options)
    total, squares = torch.zeros_like(full), torch.zeros_like(full)
    for draw in range(draws):
        found = _gradients(head, features, labels, draw)
        total += found
        squares += found**2
    mean = total / draws
    error = (squares / draws - mean**2).clamp(min=0).div(draws).sqrt()
    # Five standard errors, for a few hundred entries.
    assert ((mean - full).abs() <= 5 * error + 1e-9 * full.abs().max()).all()
    one = _gradients(head, features, labels, 0)
    assert (one - full).norm() > 0.1 * full.norm()


def test_rows_that_are_not_drawn_are_left_alone():
    classes = 400
    head = ShardedHead(classes, 8, HP, negatives=0.1, tile_size=16)
    sgd = HeadSGD(head, 0.1)
    features, labels = next(iter(batches(1, 6, 8, classes)))
    before = head.weight.detach().clone()
    # The bias starts from all K classifiers, drawn or not.
    assert head.bias.item() == pytest.approx(initial_bias(HP, classes))
    sgd.one_pass(features.requires_grad_(), labels).backward()
    changed = (head.weight != before).any(1)
    assert changed[labels].all()
    assert 40 <= changed.sum() <= 40 + len(labels)
    assert ((sgd.weight_momentum != 0).any(1) == changed).all()


def test_sampling_with_accumulation_is_refused():
    head = ShardedHead(400, 8, HP, negatives=0.1)
    with pytest.raises(Sf2Error, match=r"negatives 0\.1 with gradient accumulation"):
        head(torch.randn(2, 8), torch.tensor([0, 1]))


def test_one_pass_allocates_nothing_that_grows():
    def largest(classes):
        head = ShardedHead(classes, 32, HP, tile_size=64)
        sgd = HeadSGD(head, 0.1)
        features, labels = next(iter(batches(1, 16, 32, classes)))
        features.requires_grad_()
        sgd.one_pass(features, labels).backward()
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            sgd.one_pass(features, labels).backward()
        return max(event.self_cpu_memory_usage for event in profile.events())

    assert 0 < largest(1_000) == largest(8_000)


def test_autocast_changes_nothing():
    features, labels = next(iter(batches(1, 6, 8, 40)))
    grads = []
    for enabled in (False, True):
        part = features.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            HeadSGD(ShardedHead(40, 8, HP), 0.1).one_pass(part, labels).backward()
        grads.append(part.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0)


def _bfloat16_steps():
    return _steps(True, dtype=torch.bfloat16, products=torch.float32)


def test_ranks_round_as_one_process_does():
    rows = _bfloat16_steps()[2]
    found = np.concatenate([part[2] for part in run_ranks(2, _bfloat16_steps)])
    # Sums in another order differ in their last bits, and now and then that decides a rounding.
    assert (found != rows).mean() < 0.05


def test_a_forward_without_gradients_moves_nothing():
    head = ShardedHead(20, 8, HP)
    before = head.weight.detach().clone()
    with torch.no_grad():
        loss = head(torch.randn(2, 8), torch.tensor([0, 1]))
    assert loss.item() > 0
    torch.testing.assert_close(head.weight.detach(), before)


def test_variant_u_is_the_unified_cross_entropy():
    scale, margin, weight_of_negatives, classes = 16.0, 0.35, 0.6, 40
    hp = SphereFace2(
        variant="U",
        lam=1 / (1 + weight_of_negatives),
        r=scale,
        m=margin,
        t=1.0,
        loss_weight=scale * (1 + weight_of_negatives),
    )
    head = ShardedHead(classes, 8, hp, dtype=torch.float64)
    assert head.bias.item() == pytest.approx(-math.log(10 * classes))
    features, labels = next(batches(1, 6, 8, classes, dtype=torch.float64))
    cos = (F.normalize(features) @ head.weight.detach().T).tolist()
    threshold, expected = math.log(10 * classes), 0.0
    for row, label in zip(cos, labels.tolist(), strict=True):
        expected += math.log1p(math.exp(-scale * (row[label] - margin) + threshold))
        for other, value in enumerate(row):
            if other != label:
                expected += weight_of_negatives * math.log1p(math.exp(scale * value - threshold))
    assert head(features, labels).item() == pytest.approx(expected / 6, rel=1e-12)
