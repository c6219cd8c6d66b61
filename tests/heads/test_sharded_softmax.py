"""The sharded softmax head against one process of plain torch, in float64, on 1, 2 and 3 ranks."""

import pytest
import torch

from sf2cli.errors import Sf2Error
from sf2cli.heads.info import head_info
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.heads.softmax import MarginSoftmax, oracle_softmax_loss
from sf2cli.heads.softmax_optimizer import SoftmaxSGD
from sf2cli.heads.state import load_head
from tests.heads.plain_softmax import (
    KINDS,
    SGD,
    STEPS,
    VARIANTS,
    D,
    Quality,
    backward,
    batches,
    follow_plain_torch,
    follow_sampled_torch,
    new_head,
    place,
)
from tests.heads.saving import save_head
from tests.spawn import run_ranks


def _errors():
    errors = {}
    for kind in KINDS:
        for num_classes in (1, 2, 11):
            errors[kind, num_classes] = follow_plain_torch(num_classes, kind)
        # Sampled, but with a rate that rounds to all of every shard.
        errors[kind, "all"] = follow_plain_torch(11, kind, sample_rate=0.99)
        for num_classes, rate in ((2, 0.5), (11, 0.1), (47, 0.4)):
            errors[kind, num_classes, rate] = follow_sampled_torch(num_classes, kind, rate)
    return errors


def trained_with_sub_centres():
    """A head and its optimiser after STEPS steps."""
    head, sgd = new_head(11, "sub_centres")
    for features, labels in batches(11):
        backward(head, features, labels)
        sgd.step()
        sgd.zero_grad()
    return head, sgd


def _check_ranks(folder):
    rank, _ = place()
    save_head(folder, *trained_with_sub_centres())
    for rate in (1.0, 0.5):
        head, _ = new_head(11, "cosface", sample_rate=rate)
        for wrong in (11, -1):
            with pytest.raises(Sf2Error, match=rf"label {wrong} in the batch.* 0 to 10"):
                head(torch.randn(2, D), torch.tensor([0, wrong if rank == 0 else 1]))
        with pytest.raises(ValueError, match=r"batch sizes of the ranks are \[2, 3"):
            head(torch.randn(2 + rank, D), torch.zeros(2 + rank, dtype=torch.int64))
        with pytest.raises(ValueError, match="labels of rank 1 are not int64"):
            head(torch.randn(2, D), torch.zeros(2, dtype=torch.int32 if rank else torch.int64))
    return _errors()


def test_one_process_follows_plain_torch():
    assert max(_errors().values()) < 1e-9


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_follow_plain_torch(world, tmp_path):
    for errors in run_ranks(world, _check_ranks, tmp_path):
        assert len(errors) == 56
        assert max(errors.values()) < 1e-9
    check_saved_sub_centres(tmp_path)


def check_saved_sub_centres(folder):
    """What ranks trained and saved is, in one process, what one process trains."""
    expected, expected_sgd = trained_with_sub_centres()
    head, sgd = new_head(11, "sub_centres", seed=1)
    load_head(folder, head, sgd)
    assert sgd.steps == expected_sgd.steps == STEPS
    torch.testing.assert_close(head.weight, expected.weight)
    torch.testing.assert_close(sgd.weight_momentum, expected_sgd.weight_momentum)
    found = head_info(folder)
    assert (found["embedding_size"], found["loss"]["sub_centres"]) == (D, 3)
    assert found["not_unit"]["count"] == found["not_finite"]["count"] == 0
    with pytest.raises(Sf2Error, match=r"--similar 0\.5: .* has several sub-centres"):
        head_info(folder, similar=0.5)
    with pytest.raises(Sf2Error, match="rows of 24 numbers, this run's head has 8"):
        load_head(folder, *new_head(11, "arcface"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in VARIANTS])
def test_float32_holds_at_the_ends_of_the_scale(kind):
    hp = MarginSoftmax(kind, margin=KINDS[kind].margin, scale=64)
    head = ShardedSoftmaxHead(50, D, hp)
    rows = head.weight.detach()
    # With its own class, against it, and as far from it as from another's opposite.
    features = torch.cat([rows[:1] * 1e6, rows[1:2] * -1e-3, rows[2:3] - rows[3:4]])
    features.requires_grad_()
    loss = head(features, torch.tensor([0, 1, 3]))
    loss.backward()
    quality = Quality(head)(features)
    exact = oracle_softmax_loss(
        features.detach().double(), rows.double(), torch.tensor([0, 1, 3]), hp, quality
    )
    assert exact > 60
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    assert features.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_backwards_add_up_to_one_gradient(rate):
    together, sgd = new_head(23, "arcface", sample_rate=rate)
    single, _ = new_head(23, "arcface", sample_rate=rate)
    total = torch.zeros_like(single.weight)
    for features, labels in batches(23, steps=3):
        backward(together, features, labels)
        backward(single, features, labels)
        total += single.weight.grad.to_dense() if rate < 1 else single.weight.grad
        single.zero_grad()
    grad = together.weight.grad
    torch.testing.assert_close(grad.to_dense() if rate < 1 else grad, total)
    touched = total.abs().sum(1) > 0
    expected = together.weight.detach() - SGD["lr"] * (
        total + SGD["weight_decay"] * together.weight.detach()
    )
    expected[~touched] = together.weight.detach()[~touched]
    sgd.step()
    torch.testing.assert_close(together.weight.detach(), expected)


def test_a_row_that_the_gradient_has_twice_is_updated_once():
    head, sgd = new_head(5, "cosface", sample_rate=0.5)
    before = head.weight.detach().clone()
    values = torch.arange(3.0 * D, dtype=torch.float64).reshape(3, D)
    head.weight.grad = torch.sparse_coo_tensor(
        [[1, 4, 1]], values, before.shape, check_invariants=True
    )
    sgd.step()
    momentum = torch.zeros_like(before)
    momentum[1] = values[0] + values[2] + SGD["weight_decay"] * before[1]
    momentum[4] = values[1] + SGD["weight_decay"] * before[4]
    torch.testing.assert_close(sgd.weight_momentum, momentum)
    torch.testing.assert_close(head.weight.detach(), before - SGD["lr"] * momentum)


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_a_step_allocates_neither_logits_nor_rows_again(rate):
    head = ShardedSoftmaxHead(8192, 32, KINDS["cosface"], sample_rate=rate)
    sgd = SoftmaxSGD(head, 0.1)
    features = torch.randn(48, 32, requires_grad=True)
    labels = torch.randint(0, 8192, (48,))

    def step():
        head(features, labels).backward()
        sgd.step()
        sgd.zero_grad()

    step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    # Blocks of 1,024 rows come and go.
    assert 1024 * 32 * 4 <= largest < round(8192 * rate) * 32 * 4


def test_negatives_are_drawn_evenly():
    head, _ = new_head(40, "cosface", sample_rate=0.25)
    features = torch.randn(2, D, dtype=torch.float64)
    counts = torch.zeros(40)
    for draw in range(400):
        head.draw = draw
        head(features, torch.tensor([3, 7])).backward()
        counts[head.weight.grad._indices()[0]] += 1
        head.zero_grad()
    assert counts[3] == counts[7] == 400
    others = counts[[c for c in range(40) if c not in (3, 7)]]
    # 400 draws of 8 out of 38: 84 expected, with a standard deviation of 8.2.
    assert others.sum() == 400 * 8
    assert others.min() > 84 - 5 * 8.2
    assert others.max() < 84 + 5 * 8.2


def test_without_gradients_only_the_loss_is_computed():
    head, _ = new_head(11, "arcface")
    features, labels = next(batches(11))
    with torch.no_grad():
        loss = head(features, labels)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(
        oracle_softmax_loss(features, head.weight.detach(), labels, head.hp).item(), rel=1e-12
    )


def test_autocast_changes_nothing():
    head = ShardedSoftmaxHead(300, 16, KINDS["cosface"])
    features = torch.randn(4, 16, requires_grad=True)
    labels = torch.tensor([0, 5, 5, 299])
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", enabled=enabled):
            loss = head(features, labels)
            loss.backward()
        results.append((loss.detach(), features.grad.clone(), head.weight.grad.clone()))
        features.grad = head.weight.grad = None
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


def test_a_loss_is_differentiated_once_and_for_the_weight_it_was_made_with():
    head, _ = new_head(11, "cosface")
    features, labels = next(batches(11))
    loss = head(features, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        loss.backward()
    loss = head(features, labels)
    with torch.no_grad():
        head.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_initial_rows_depend_on_class_and_seed_alone():
    small, large = (ShardedSoftmaxHead(k, 64, KINDS["cosface"], seed=4) for k in (5, 2000))
    assert torch.equal(small.weight, large.weight[:5])
    assert large.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not torch.equal(small.weight, ShardedSoftmaxHead(5, 64, KINDS["cosface"], seed=5).weight)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_rates_outside_their_range_are_refused(rate):
    with pytest.raises(ValueError, match="sample_rate is"):
        new_head(11, "cosface", sample_rate=rate)


@pytest.mark.parametrize("field", ["lr", "momentum", "weight_decay"])
def test_optimizer_settings_outside_their_range_are_refused(field):
    head, _ = new_head(11, "cosface")
    with pytest.raises(ValueError, match=f"{field} is -1"):
        SoftmaxSGD(head, **(SGD | {field: -1.0}))


def test_without_momentum_none_is_kept():
    head, _ = new_head(11, "cosface", sample_rate=0.5)
    sgd = SoftmaxSGD(head, lr=0.1, momentum=0.0, weight_decay=0.0)
    assert sgd.weight_momentum is None
    before = head.weight.detach().clone()
    features, labels = next(batches(11))
    backward(head, features, labels)
    grad = head.weight.grad.to_dense()
    sgd.step()
    torch.testing.assert_close(head.weight.detach(), before - 0.1 * grad)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_one_pass_equals_forward_backward_step(rate):
    (fused, fused_sgd), (head, sgd) = (new_head(23, "arcface", sample_rate=rate) for _ in range(2))
    for features, labels in batches(23):
        leaf = features.clone().requires_grad_()
        loss = fused_sgd.one_pass(leaf, labels)
        loss.backward()
        expected, grad, _ = backward(head, features, labels)
        sgd.step()
        sgd.zero_grad()
        assert loss.item() == expected
        assert torch.equal(leaf.grad, grad)
        assert torch.equal(fused.weight, head.weight)
    assert fused_sgd.steps == STEPS
