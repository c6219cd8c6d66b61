"""The step in one compiled call: against the oracle, against the tiles, and when it is taken."""

import pytest
import torch
import torch.nn.functional as F

from sf2cli.heads import compiled
from sf2cli.heads.fused import SCRATCH_BYTES, FusedStep
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, oracle_loss

HP = SphereFace2(r=30.0, m=0.3)


def needs_fused(products):
    missing = FusedStep.of(products, 32) is None
    return pytest.mark.skipif(missing, reason=f"this processor has no fused {products} products")


pytestmark = needs_fused(torch.float32)

# Types of the products: bfloat16 where the processor has them.
PRODUCTS = [torch.float32, pytest.param(torch.bfloat16, marks=needs_fused(torch.bfloat16))]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def batches(steps, batch, width, classes):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        features = torch.randn(batch, width, generator=generator)
        yield features, torch.randint(0, classes, (batch,), generator=generator)


class Trained:
    """A head after steps on the same batches as every other."""

    def __init__(self, shape, hp=HP, *, momentum=0.9, steps=3, **options):
        classes, batch, width = shape
        self.head = ShardedHead(classes, width, hp, **options)
        self.start = self.head.weight.detach().clone()
        self.sgd = HeadSGD(self.head, 0.2, momentum)
        self.losses, self.grads = [], []
        for features, labels in batches(steps, batch, width, classes):
            features.requires_grad_()
            loss = self.sgd.one_pass(features, labels)
            loss.backward()
            self.losses.append(loss.item())
            self.grads.append(features.grad)
        self.rows = self.head.weight.detach()
        self.bias = self.head.bias.item()
        self.was_fused = sum(self.head.kernels.fused.seconds.values()) > 0


def oracle(start, shape, hp, momentum=0.9, steps=3):
    """Losses, feature gradients, rows and bias in float64, by autograd and torch's SGD."""
    classes, batch, width = shape
    weight = torch.nn.Parameter(start.double())
    bias = torch.nn.Parameter(ShardedHead(classes, width, hp).bias.detach().double())
    sgd = torch.optim.SGD([weight, bias], 0.2, momentum=momentum, weight_decay=5e-4)
    losses, grads = [], []
    for features, labels in batches(steps, batch, width, classes):
        exact = features.double().requires_grad_()
        loss = oracle_loss(exact, weight, bias, labels, hp)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        weight.data = F.normalize(weight.data)
        losses.append(loss.item())
        grads.append(exact.grad)
    return losses, grads, weight.detach(), bias.item()


def equal_oracle(trained, expected):
    losses, grads, rows, bias = expected
    assert trained.was_fused
    assert trained.losses == pytest.approx(losses, rel=1e-5)
    assert trained.bias == pytest.approx(bias, rel=1e-5)
    for found, exact in zip(trained.grads, grads, strict=True):
        scale = exact.abs().max().item()
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * scale)
    moved = (rows - trained.start.double()).norm()
    assert moved > 1e-3
    assert (trained.rows.double() - rows).norm() < 1e-5 * moved


# Rows about the block of 128, down to one; batches about the vector of 16 and the panel of 32.
SHAPES = [
    *((1, 3, 32), (5, 1, 64), (127, 16, 96), (128, 32, 32), (129, 33, 64)),
    *((263, 7, 160), (400, 129, 512)),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_the_step_follows_the_oracle(shape, momentum):
    trained = Trained(shape, momentum=momentum)
    equal_oracle(trained, oracle(trained.start, shape, HP, momentum))
    assert (trained.sgd.weight_momentum is None) == (momentum == 0)


@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize(("variant", "m"), [("C", 0.4), ("A", 0.5), ("M", 1.7), ("U", 0.4)])
@pytest.mark.parametrize("t", [1.0, 2.0, 3.0, 4.0])
def test_every_loss_follows_the_oracle(variant, m, t, gradient):
    hp, shape = SphereFace2(variant=variant, r=24.0, m=m, t=t, gradient=gradient), (141, 21, 32)
    trained = Trained(shape, hp)
    equal_oracle(trained, oracle(trained.start, shape, hp))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_step_is_that_of_the_tiles(shape):
    fused, tiled = Trained(shape), Trained(shape, tile_size=64)
    assert fused.was_fused
    assert not tiled.was_fused
    assert fused.losses == pytest.approx(tiled.losses, rel=1e-5)
    assert fused.head.similarities.take() == pytest.approx(
        tiled.head.similarities.take(), rel=1e-4, nan_ok=True
    )
    for a, b in (
        *zip(fused.grads, tiled.grads, strict=True),
        (fused.rows, tiled.rows),
        (fused.sgd.weight_momentum, tiled.sgd.weight_momentum),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5 * b.abs().max().item())


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_the_rows_without_touching_the_numbers(threads, dtype, products):
    shape, found = (700, 20, 64), []
    for count in (1, 2, 3, 8):
        threads(count)
        found.append(Trained(shape, steps=1, dtype=dtype, products=products))
    for other in found[1:]:
        assert other.was_fused
        assert torch.equal(other.rows, found[0].rows)
        assert torch.equal(other.sgd.weight_momentum, found[0].sgd.weight_momentum)
        assert other.losses == pytest.approx(found[0].losses, rel=1e-12)
        torch.testing.assert_close(other.grads[0], found[0].grads[0], rtol=1e-4, atol=1e-8)


def test_no_row_is_left_out_where_fewer_threads_come_than_asked_for(threads):
    runtime = compiled.load()
    threads(2)
    expected = Trained((700, 20, 64))
    levels = runtime.omp_get_max_active_levels()
    runtime.omp_set_max_active_levels(0)
    try:
        alone = Trained((700, 20, 64))
    finally:
        runtime.omp_set_max_active_levels(levels)
    assert alone.was_fused
    torch.testing.assert_close(alone.rows, expected.rows, rtol=1e-5, atol=1e-6)
    assert alone.losses == pytest.approx(expected.losses, rel=1e-6)


def test_a_batch_of_which_every_sample_is_left_out_moves_rows_by_decay_alone():
    found = []
    for tile_size in (None, 64):
        head = ShardedHead(200, 32, HP, tile_size=tile_size)
        head.reject_below = 1.1
        features, labels = next(batches(1, 6, 32, 200))
        loss = HeadSGD(head, 0.2).one_pass(features.requires_grad_(), labels)
        loss.backward()
        assert loss.item() == 0
        assert not features.grad.any()
        found.append(head.weight.detach())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


def test_a_feature_that_is_no_number_is_seen():
    head = ShardedHead(200, 32, HP)
    features, labels = next(batches(1, 6, 32, 200))
    features[2, 5] = torch.nan
    assert HeadSGD(head, 0.2).one_pass(features.requires_grad_(), labels).isnan()


@pytest.mark.parametrize("products", PRODUCTS)
def test_bfloat16_draws_the_noise_of_the_tiles(products):
    shape, options = (500, 40, 64), {"dtype": torch.bfloat16, "products": products}
    fused = Trained(shape, steps=1, **options)
    tiled = Trained(shape, steps=1, tile_size=64, **options)
    assert fused.was_fused
    assert not tiled.was_fused
    # With bfloat16 products the tiles round cosines and gradients on the way, which now and then
    # decides a rounding; with other noise nearly half of the entries would differ.
    allowed = 0.1 if products == torch.bfloat16 else 0.001
    assert (fused.rows != tiled.rows).float().mean() < allowed
    assert fused.losses == pytest.approx(tiled.losses, rel=1e-2 * allowed)
    found, expected = fused.grads[0], tiled.grads[0]
    close = 0.1 * allowed * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=close)


@needs_fused(torch.bfloat16)
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_rows_are_multiplied_in_bfloat16(shape):
    fused = Trained(shape, steps=1, products=torch.bfloat16)
    tiled = Trained(shape, steps=1, products=torch.bfloat16, tile_size=64)
    assert fused.was_fused
    assert fused.losses == pytest.approx(tiled.losses, rel=1e-3)
    for a, b in ((fused.grads[0], tiled.grads[0]), (fused.rows, tiled.rows)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-2 * b.abs().max().item())


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_rows_are_multiplied_in_float32(shape):
    options = {"steps": 1, "dtype": torch.bfloat16, "products": torch.float32}
    fused, tiled = Trained(shape, **options), Trained(shape, tile_size=64, **options)
    assert fused.was_fused
    assert fused.losses == pytest.approx(tiled.losses, rel=1e-5)
    scale = tiled.grads[0].abs().max().item()
    torch.testing.assert_close(fused.grads[0], tiled.grads[0], rtol=0, atol=1e-5 * scale)
    assert (fused.rows != tiled.rows).float().mean() < 0.001


@pytest.mark.parametrize("products", PRODUCTS)
def test_bfloat16_rows_are_right_on_average(products):
    # The same row many times, each a negative of every sample: the same step, other noise.
    classes, width, lr = 8192, 32, 0.02
    head = ShardedHead(classes + 1, width, HP, dtype=torch.bfloat16, products=products)
    start = head.weight.detach()[0].clone()
    head.weight.detach()[1:] = start
    exact = torch.nn.Parameter(head.weight.detach().float())
    features, labels = next(batches(1, 16, width, 1))
    bias = head.bias.detach().clone()
    oracle_loss(features.to(products).float(), exact, bias, labels, HP).backward()
    wanted = F.normalize(exact - lr * (exact.grad + 5e-4 * exact)).detach()[1].double()
    HeadSGD(head, lr).one_pass(features.requires_grad_(), labels)
    found = head.weight.detach()[1:].double()
    gap = torch.finfo(torch.bfloat16).eps * 2 ** wanted.abs().log2().floor()
    assert ((found - wanted).abs() < 1.01 * gap).all()
    assert ((wanted - start.double()).abs() < gap / 2).any()
    # Five standard errors of a rounding between two neighbours; and the step is by gradients that
    # were rounded, to the nearest, on their way through the product.
    rounded = 0.004 * (wanted - start.double()).abs().max()
    assert ((found.mean(0) - wanted).abs() < 5 * gap * 0.5 / classes**0.5 + rounded).all()


@pytest.mark.parametrize(
    "options",
    [{"negatives": 0.5}, {"tile_size": 64}],
)
def test_the_tiles_do_what_it_does_not_know(options):
    head = ShardedHead(200, 64, HP, **options)
    assert head.kernels.name == "c++"
    assert head.fused(8) is None
    before = head.weight.detach().clone()
    features, labels = next(batches(1, 8, 64, 200))
    HeadSGD(head, 0.2).one_pass(features.requires_grad_(), labels)
    assert (head.weight != before).any()
    fused = head.kernels.fused
    assert fused is None or not any(fused.seconds.values())


def test_the_tiles_step_where_the_processor_lacks_the_instructions(monkeypatch):
    monkeypatch.setattr(compiled.load(), "sf2_panel", lambda is_bfloat16: 0)
    shape = (200, 8, 64)
    head = ShardedHead(200, 64, HP)
    assert head.kernels.name == "c++"
    assert head.kernels.fused is head.fused(8) is None
    features, labels = next(batches(1, 8, 64, 200))
    loss = HeadSGD(head, 0.2, 0.9).one_pass(features.requires_grad_(), labels)
    losses, _, rows, _ = oracle(ShardedHead(200, 64, HP).weight.detach(), shape, HP, steps=1)
    assert [loss.item()] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(head.weight.detach().double(), rows, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [40, 33, 8])
def test_it_takes_whole_panels_alone(width):
    assert ShardedHead(200, width, HP).fused(8) is None
    assert ShardedHead(200, 64, HP).fused(8) is not None


def test_bare_products_are_no_part_of_what_steps_cost():
    fused = FusedStep.of(torch.float32, 64)
    fused.only_products(torch.ones(8, 64), 3)
    assert not any(fused.seconds.values())


def test_scratch_memory_is_bounded(threads):
    fused = FusedStep.of(torch.float32, 512)
    threads(1)
    assert fused.scratch_bytes(128, 512) < 2 << 20
    assert fused.scratch_bytes(8192, 512) > SCRATCH_BYTES
    head = ShardedHead(100, 512, HP)
    assert head.fused(128) is not None
    assert head.fused(8192) is None
    threads(64)
    assert head.fused(128) is None
