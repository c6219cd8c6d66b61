"""The official implementations' trajectories, in float64, unsharded and on 2 and 3 ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from sf2cli.errors import Sf2Error
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.partition import Partition
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias, oracle_loss
from sf2cli.heads.state import load_head
from tests.heads.saving import save_head
from tests.spawn import run_ranks

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("[acm]_*.npz"))


def settings(name, data):
    return SphereFace2(
        variant=name[0].upper(),
        lam=float(data["alpha"]),
        r=float(data["r"]),
        m=float(data["m"]),
        t=float(data["t"]),
        gradient="full" if "full" in name else "detached",
        loss_weight=float(data["lw"]),
    )


def place():
    """This process's rank and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def trajectory(name, tile_size=7):
    """The largest relative error of this rank against the golden run."""
    rank, world = place()
    data = np.load(GOLDEN / f"{name}.npz")
    weight = torch.from_numpy(data["weight_init"])
    head = ShardedHead(
        *weight.shape, settings(name, data), dtype=torch.float64, tile_size=tile_size
    )
    rows = slice(head.start, head.stop)
    with torch.no_grad():
        head.weight.copy_(torch.nn.functional.normalize(weight[rows]))
        head.bias.fill_(float(data["bias_init"]))
    sgd = HeadSGD(head, float(data["lr"]), float(data["momentum"]), float(data["weight_decay"]))
    worst = 0.0

    def compare(found, expected):
        nonlocal worst
        found, expected = np.asarray(found), np.asarray(expected)
        scale = max(np.abs(expected).max(initial=0), 1e-12)
        worst = max(worst, np.abs(found - expected).max(initial=0) / scale)

    batch = data["features"].shape[1]
    # Where the batch does not divide every rank gets all of it: the mean over copies is the same.
    copies = 1 if batch % world == 0 else world
    per_rank = batch * copies // world
    first = rank * per_rank if copies == 1 else 0
    own = slice(first, first + per_rank)
    for step in range(len(data["loss"])):
        features = torch.from_numpy(data["features"][step][own]).requires_grad_()
        loss = head(features, torch.from_numpy(data["labels"][step][own]))
        loss.backward()
        compare(loss.item(), data["loss"][step])
        compare(features.grad * copies / world, data["grad_features"][step][own])
        compare(head.weight.grad, data["grad_weight"][step][rows])
        compare(head.bias.grad, data["grad_bias"][step])
        before = head.weight.detach().clone()
        sgd.step()
        sgd.zero_grad()
    # The official rows are renormalised before the next step, ours in the same one.
    compare(before - sgd.lr * sgd.weight_momentum, data["weight_final"][rows])
    compare(
        head.weight.detach(), torch.nn.functional.normalize(before - sgd.lr * sgd.weight_momentum)
    )
    compare(head.bias.item(), data["bias_final"])
    return worst


@pytest.mark.parametrize("name", NAMES)
def test_one_process_follows_the_official_run(name):
    assert trajectory(name) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_oracle_follows_the_official_run(name):
    data = np.load(GOLDEN / f"{name}.npz")
    weight = torch.nn.functional.normalize(torch.from_numpy(data["weight_init"]))
    loss = oracle_loss(
        torch.from_numpy(data["features"][0]),
        weight,
        torch.tensor(float(data["bias_init"]), dtype=torch.float64),
        torch.from_numpy(data["labels"][0]),
        settings(name, data),
    )
    assert loss.item() == pytest.approx(float(data["loss"][0]), rel=1e-9)


def _all_trajectories():
    return {name: trajectory(name) for name in NAMES}


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_follow_the_official_run(world):
    for errors in run_ranks(world, _all_trajectories):
        assert len(errors) == len(NAMES)
        assert max(errors.values()) < 1e-9


def _sharded_run(num_classes, folder):
    """Losses, feature gradients and rows of three steps on a batch of 6 cut over the ranks."""
    rank, world = place()
    generator = torch.Generator().manual_seed(1)
    head = ShardedHead(num_classes, 8, SphereFace2(), dtype=torch.float64, tile_size=3)
    sgd = HeadSGD(head, 0.1)
    losses, grads = [], []
    for _ in range(3):
        features = torch.randn(6, 8, generator=generator, dtype=torch.float64)
        # Only the first classes occur, so that the last rank owns no positive.
        labels = torch.randint(0, min(2, num_classes), (6,), generator=generator)
        own = slice(rank * 6 // world, (rank + 1) * 6 // world)
        part = features[own].clone().requires_grad_()
        loss = head(part, labels[own])
        loss.backward()
        losses.append(loss.item())
        grads.append((part.grad / world).numpy())
        sgd.step()
        sgd.zero_grad()
    if folder:
        save_head(folder, head, sgd, [str(i) for i in range(num_classes)])
    return losses, np.stack(grads), head.weight.detach().numpy(), sgd.weight_momentum.numpy()


def _reload(num_classes, folder):
    head = ShardedHead(num_classes, 8, SphereFace2(), dtype=torch.float64, seed=9)
    sgd = HeadSGD(head, 0.1)
    load_head(folder, head, sgd)
    return head.weight.detach().numpy(), sgd.weight_momentum.numpy()


def _check_world(folder):
    rank, world = place()
    results = {}
    for num_classes in (1, 2, 11):
        target = folder / f"{world}-{num_classes}"
        if rank == 0:
            target.mkdir()
        dist.barrier()
        results[num_classes] = _sharded_run(num_classes, target)
    head = ShardedHead(11, 8, SphereFace2())
    with pytest.raises(Sf2Error, match=r"label 11 in the batch.* 0 to 10"):
        head(torch.randn(2, 8), torch.tensor([0, 11 if rank == 0 else 1]))
    other = _reload(11, folder / "1-11")
    return results, other


@pytest.mark.parametrize("world", [2, 3])
def test_sharded_equals_unsharded(world, tmp_path):
    alone = {}
    for num_classes in (1, 2, 11):
        target = tmp_path / f"1-{num_classes}"
        target.mkdir()
        alone[num_classes] = _sharded_run(num_classes, target)
    ranks = run_ranks(world, _check_world, tmp_path)
    for num_classes, (losses, grads, weight, momentum) in alone.items():
        parts = [results[num_classes] for results, _ in ranks]
        for part in parts:
            assert part[0] == pytest.approx(losses, rel=1e-10)
        together = np.concatenate([part[1] for part in parts], axis=1)
        np.testing.assert_allclose(together, grads, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(np.concatenate([part[2] for part in parts]), weight, rtol=1e-8)
        target = tmp_path / f"{world}-{num_classes}"
        back_weight, back_momentum = _reload(num_classes, target)
        np.testing.assert_allclose(back_weight, weight, rtol=1e-8)
        np.testing.assert_allclose(back_momentum, momentum, rtol=1e-7, atol=1e-12)
    reloaded = np.concatenate([other[0] for _, other in ranks])
    np.testing.assert_array_equal(reloaded, alone[11][2])


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 1000, 85742])
def test_initial_bias_balances_pull_and_push(num_classes):
    hp = SphereFace2(lam=0.8, r=64, m=0.5)
    b = initial_bias(hp, num_classes)
    right_angle = 2 * 0.5**hp.t - 1
    pull = hp.lam / (1 + np.exp(hp.r * (right_angle - hp.m) + b))
    push = (1 - hp.lam) * (num_classes - 1) / (1 + np.exp(-(hp.r * (right_angle + hp.m) + b)))
    assert pull == pytest.approx(push, rel=1e-6)


def test_initial_bias_on_record():
    assert initial_bias(SphereFace2(), 8631) == pytest.approx(5.785, abs=5e-4)
    assert initial_bias(SphereFace2(lam=0.8, r=64, m=0.5), 85742) == pytest.approx(6.027, abs=5e-4)


def test_partition_covers_every_class_once():
    for num_classes in range(1, 20):
        for world in range(1, 8):
            partition = Partition(num_classes, world)
            owned = [
                c
                for rank in range(world)
                for c in range(partition.start(rank), partition.stop(rank))
            ]
            assert owned == list(range(num_classes))
            sizes = [partition.size(rank) for rank in range(world)]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damaged_heads_are_refused_by_name(tmp_path, damage):
    _sharded_run(5, tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-9])
    elif damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(Sf2Error, match=path.name):
        _reload(5, tmp_path)


def test_a_head_of_another_size_is_refused(tmp_path):
    _sharded_run(5, tmp_path)
    with pytest.raises(Sf2Error, match="num_classes is 5"):
        _reload(6, tmp_path)
