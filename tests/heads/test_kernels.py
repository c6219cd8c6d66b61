"""The compiled kernels against the plain ones, and those against autograd."""

import platform

import pytest
import torch
import torch.nn.functional as F

from sf2cli.heads import compiled
from sf2cli.heads.arguments import SGDStep, Targets
from sf2cli.heads.fused import FusedStep
from sf2cli.heads.kernels import CppKernels, TorchKernels, choose_kernels
from sf2cli.heads.rounding import mix, noise, stochastic_bfloat16
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2

ROWS, BATCH, FIRST = 37, 21, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["native", "x86-64"])
def cpp(request):
    """The kernels as built for this processor, and as built for one with narrow vectors."""
    if request.param == "native":
        return CppKernels()
    if platform.machine() != "x86_64":
        pytest.skip("only x86 has a common subset to build for")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_FLAGS", (*compiled._FLAGS, f"-march={request.param}"))
        compiled.load.cache_clear()
        kernels = CppKernels()
    assert FusedStep.of(torch.float32, 32) is None
    compiled.load.cache_clear()
    return kernels


def tile(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cos = (torch.rand(ROWS, BATCH, generator=generator) * 2.2 - 1.1).to(dtype)
    labels = torch.randint(0, FIRST + ROWS + 5, (BATCH,), generator=generator, dtype=torch.int32)
    return cos, Targets(labels, torch.randn(BATCH, generator=generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize(
    ("variant", "t", "m"), [("C", 1.0, 0.4), ("C", 3.0, 0.4), ("M", 4.0, 1.7), ("U", 1.0, 0.4)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_negatives_equal_plain_ones(cpp, dtype, gradient, variant, t, m, weighted):
    hp = SphereFace2(variant=variant, t=t, m=m, gradient=gradient)
    cos, targets = tile(dtype)
    row_weight = torch.linspace(0, 4, ROWS) if weighted else None
    bias = torch.tensor(1.5)
    grads, sums = [], []
    for kernels in (TorchKernels(), cpp):
        grad = torch.full_like(cos, torch.nan)
        sums.append(kernels.negatives(cos, grad, targets, FIRST, row_weight, bias, hp))
        grads.append(grad.float())
    precision = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(grads[1], grads[0], rtol=precision, atol=1e-12)
    torch.testing.assert_close(sums[1], sums[0], rtol=1e-5, atol=1e-9)


def test_compiled_negatives_keep_tiny_losses(cpp):
    cos = torch.linspace(-1, 1, 1024)[None].contiguous()
    targets = Targets(torch.full((1024,), -1, dtype=torch.int32), torch.zeros(1024))
    hp = SphereFace2(r=16.0)
    loss = torch.stack(
        [
            cpp.negatives(
                cos[:, i : i + 1].contiguous(), torch.empty(1, 1), targets, 0, None,
                torch.tensor(-20.0), hp,
            )[0]
            for i in range(1024)
        ]
    ).flatten()  # fmt: skip
    exact = cos[0].double()
    logits = 16 * (2 * ((exact + 1) / 2) ** 3 - 1 + 0.4) - 20
    expected = F.softplus(logits, threshold=60) * 0.3 / 16
    assert expected.min() < 1e-14
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keep_momentum", [True, False])
def test_compiled_update_equals_the_plain_one(cpp, weight_dtype, grad_dtype, keep_momentum):
    generator = torch.Generator().manual_seed(1)
    weight = F.normalize(torch.randn(ROWS, 70, generator=generator)).to(weight_dtype)
    buffer = (torch.randn(ROWS, 70, generator=generator) * 0.1).to(weight_dtype)
    grad = (torch.randn(ROWS, 70, generator=generator) * 0.1).to(grad_dtype)
    step = SGDStep(lr=0.1, momentum=0.9, weight_decay=5e-4, seed=0xDEADBEEF)
    results = []
    for kernels in (TorchKernels(), cpp):
        w, b = weight.clone(), buffer.clone() if keep_momentum else None
        kernels.update(w, b, grad, FIRST, step)
        results.append((w.float(), b.float() if b is not None else torch.zeros(1)))
    (plain_w, plain_b), (w, b) = results
    if weight_dtype == torch.float32:
        torch.testing.assert_close(w, plain_w, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(b, plain_b, rtol=1e-5, atol=1e-7)
    else:
        # The same noise rounds both; only where the last float32 bit decides may they differ.
        assert (w != plain_w).float().mean() < 1e-3
        assert (b != plain_b).float().mean() < 1e-3
    torch.testing.assert_close(w.norm(dim=1), torch.ones(ROWS), rtol=4e-3, atol=0)


def test_plain_kernels_are_the_derivative_of_the_formula():
    hp = SphereFace2()
    generator = torch.Generator().manual_seed(2)
    features = F.normalize(torch.randn(BATCH, 8, dtype=torch.float64, generator=generator))
    weight = F.normalize(torch.randn(ROWS, 8, dtype=torch.float64, generator=generator))
    bias = torch.tensor(1.5, dtype=torch.float64)
    # Labels beyond the rows: every entry is a negative.
    targets = Targets(
        torch.full((BATCH,), -1, dtype=torch.int32), torch.zeros(BATCH, dtype=torch.float64)
    )
    cos = weight @ features.T
    grad = torch.empty_like(cos)
    loss, push, cosines, _ = TorchKernels().negatives(cos, grad, targets, 0, None, bias, hp)
    torch.testing.assert_close(cosines, cos.sum(1))
    cos.requires_grad_()
    bias.requires_grad_()
    logits = hp.r * (2 * ((cos + 1) / 2) ** hp.t - 1 + hp.m) + bias
    expected = (1 - hp.lam) / hp.r * F.softplus(logits, threshold=60).sum()
    expected.backward()
    torch.testing.assert_close(loss.sum(), expected.detach())
    torch.testing.assert_close(push.sum(), bias.grad)
    torch.testing.assert_close(grad, cos.grad)


def test_stochastic_rounding_is_unbiased_and_picks_a_neighbour():
    values = torch.tensor([1.0, 1.001, -1.003, 3e-5, -7.7777, 0.0])
    draws = noise(0, 20_000, len(values), seed=3, device=CPU) & 0xFFFF
    rounded = stochastic_bfloat16(values.expand(20_000, -1).contiguous(), draws).float()
    for i, value in enumerate(values.tolist()):
        found = rounded[:, i].unique()
        assert len(found) <= 2
        assert found.min() <= value <= found.max()
        gap = (found.max() - found.min()).item()
        assert rounded[:, i].double().mean().item() == pytest.approx(value, abs=0.02 * gap + 1e-12)


def test_noise_depends_on_row_column_and_seed_alone():
    whole = noise(100, 50, 30, seed=7, device=CPU)
    torch.testing.assert_close(noise(120, 5, 30, seed=7, device=CPU), whole[20:25])
    assert (noise(100, 50, 30, seed=8, device=CPU) == whole).float().mean() < 0.01
    low, high = whole & 0xFFFF, whole >> 16
    assert abs(low.double().mean() / 65535 - 0.5) < 0.03
    assert abs(high.double().mean() / 65535 - 0.5) < 0.03
    assert mix(torch.tensor([0xFFFFFFFF])).item() < 2**32


@pytest.mark.parametrize("compiler", ["/bin/false", "/nonexistent/c++"])
def test_where_nothing_compiles_plain_torch_serves(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.load.cache_clear()
    try:
        with pytest.raises(compiled.BuildError, match=compiler.replace("+", ".")):
            compiled.load()
        kernels = choose_kernels(CPU, torch.float32, torch.float32, 8, SphereFace2())
        assert kernels.name.startswith("torch, slow: ")
        assert not list(tmp_path.rglob("*.so"))
    finally:
        compiled.load.cache_clear()


def test_what_the_compiled_kernels_do_not_know_goes_to_torch():
    def chosen(dtype, products, hp):
        return choose_kernels(CPU, dtype, products, 8, hp).name

    assert chosen(torch.float32, torch.bfloat16, SphereFace2()) == "c++"
    assert chosen(torch.float32, torch.float32, SphereFace2(t=2.5)) == "torch"
    assert chosen(torch.float64, torch.float64, SphereFace2()) == "torch"
    with pytest.raises(ValueError, match=r"products is torch\.float16"):
        ShardedHead(5, 4, SphereFace2(), products=torch.float16)


def test_plain_kernels_can_be_captured_whole_for_other_devices():
    def captured(function):
        return torch.compile(function, backend="aot_eager", fullgraph=True)

    plain, hp, bias = TorchKernels(), SphereFace2(), torch.tensor(1.5)
    cos, targets = tile(torch.float32)
    expected, found = torch.empty_like(cos), torch.empty_like(cos)
    sums = plain.negatives(cos, expected, targets, FIRST, None, bias, hp)
    again = captured(plain.negatives)(cos, found, targets, FIRST, None, bias, hp)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again, sums)
    weights = [F.normalize(torch.ones(4, 8)).bfloat16() for _ in range(2)]
    buffers = [torch.zeros(4, 8, dtype=torch.bfloat16) for _ in range(2)]
    step = SGDStep(0.1, 0.9, 5e-4, seed=1)
    plain.update(weights[0], buffers[0], torch.ones(4, 8), FIRST, step)
    captured(plain.update)(weights[1], buffers[1], torch.ones(4, 8), FIRST, step)
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    torch.testing.assert_close(buffers[1], buffers[0], rtol=0, atol=0)
