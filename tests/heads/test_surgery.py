"""A head over other identities: whose rows it gets, and that nobody else notices."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from sf2cli.errors import Sf2Error
from sf2cli.heads import surgery
from sf2cli.heads.manifest import read_head_manifest
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, g, initial_bias
from sf2cli.heads.surgery import Graft, graft_head, random_rows, rebalanced_bias
from tests.heads.saving import save_head
from tests.spawn import run_ranks

HP = SphereFace2(r=30.0, m=0.3)
WIDTH = 6
OLD = [f"old {i:02d}" for i in range(23)]
# Three identities gone, two renamed into one that stays, one renamed; new ones before, between
# and after.
RENAMED = {"old 03": "old 02", "old 11": "old 02", "old 20": "aunt"}
NEW = ["anna", *OLD[:3], "berta", *OLD[4:11], "aunt", *OLD[14:20], *OLD[21:], "zoe"]
DROPPED = 2


def trained(classes, **options):
    """A head after some steps, so that its bias and momentum are of no special value."""
    head = ShardedHead(classes, WIDTH, HP, **options)
    sgd = HeadSGD(head, 0.05)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        features = torch.randn(8, WIDTH, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, classes, (8,), generator=generator)
        sgd.one_pass(features.to(head.bias.dtype), labels)
    return head, sgd


def grafted(folder, names, renamed, *, keep_momentum=True, **options):
    """A new head over `names`, with its rows from the head saved in `folder`."""
    manifest = read_head_manifest(folder)
    graft = Graft.of(manifest.identities, names, renamed)
    head = ShardedHead(len(names), WIDTH, HP, **options)
    sgd = HeadSGD(head, 0.05)
    graft_head(
        folder, manifest, graft, head, sgd, random_rows(WIDTH, 9), keep_momentum=keep_momentum
    )
    return head, sgd, graft


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def saved(request, tmp_path):
    head, sgd = trained(len(OLD), dtype=request.param)
    save_head(tmp_path, head, sgd, OLD)
    return tmp_path, head, sgd


def test_rows_go_by_name(saved, monkeypatch):
    monkeypatch.setattr(surgery, "BLOCK_ROWS", 4)
    folder, old, old_sgd = saved
    head, sgd, graft = grafted(folder, NEW, RENAMED, dtype=old.weight.dtype)
    assert str(graft) == "18 rows carried, 3 merged into 1, 3 new, 2 dropped"
    assert sgd.bias_momentum == old_sgd.bias_momentum
    moved = {name: RENAMED.get(name, name) for name in OLD}
    for i, name in enumerate(NEW):
        row, momentum = head.weight[i], sgd.weight_momentum[i]
        sources = [j for j, old_name in enumerate(OLD) if moved[old_name] == name]
        if len(sources) == 1:
            assert row.equal(old.weight[sources[0]])
            assert momentum.equal(old_sgd.weight_momentum[sources[0]])
            continue
        assert not momentum.any()
        if sources:
            mean = F.normalize(old.weight[sources].float().mean(0), dim=0)
            assert_close(row.float(), mean, rtol=0, atol=1e-2 if row.itemsize == 2 else 1e-6)
    # A new row has nothing to do with the row that the old head's seed gave this number.
    first = ShardedHead(len(OLD), WIDTH, HP, dtype=old.weight.dtype)
    for i, name in enumerate(NEW):
        if name in ("anna", "berta", "zoe"):
            assert not head.weight[i].equal(first.weight[i])
            assert head.weight[i].float().norm().item() == pytest.approx(1, abs=1e-2)


def test_momentum_can_start_over(saved):
    folder, old, _ = saved
    _, sgd, _ = grafted(folder, NEW, {}, keep_momentum=False, dtype=old.weight.dtype)
    assert not sgd.weight_momentum.any()
    assert sgd.bias_momentum == 0
    assert sgd.steps == 0


def gradients(head, bias, features, labels):
    """Loss-free gradient by every row at that bias, and the features' own gradient."""
    rows = torch.zeros_like(head.weight, requires_grad=False)
    with torch.no_grad():
        head.bias.fill_(bias)

    def keep(tile, grad):
        rows[tile.where] = grad

    head.run(features, labels, keep)
    return rows


def test_adding_identities_leaves_the_others_as_they_were(tmp_path):
    old, sgd = trained(len(OLD), dtype=torch.float64)
    save_head(tmp_path, old, sgd, OLD)
    more = ["anna", *OLD[:9], "berta", *OLD[9:], *(f"z{i}" for i in range(30))]
    head, _, _ = grafted(tmp_path, more, {}, dtype=torch.float64)
    shared = torch.tensor([more.index(name) for name in OLD])
    assert head.weight[shared].equal(old.weight)
    before, after = old.bias.item(), head.bias.item()
    assert after - before == pytest.approx(math.log((len(OLD) - 1) / (len(more) - 1)), abs=1e-9)

    generator = torch.Generator().manual_seed(5)
    features = torch.randn(12, WIDTH, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, len(OLD), (12,), generator=generator)
    cos = F.normalize(features) @ head.weight[shared].T
    old_logits = HP.r * g(F.normalize(features) @ old.weight.T, HP.t) + old.bias
    assert_close(HP.r * g(cos, HP.t) + head.bias - old_logits, torch.full_like(cos, after - before))
    # At one bias the shared rows' gradients are the same: it is all that the others change.
    for bias in (before, after):
        found = gradients(head, bias, features, shared[labels])[shared]
        expected = gradients(old, bias, features, labels)
        assert expected.abs().max() > 1e-4
        assert_close(found, expected, rtol=1e-10, atol=1e-15)
    assert not torch.allclose(found, gradients(old, before, features, labels), rtol=1e-3)


@pytest.mark.parametrize("hp", [HP, SphereFace2(), SphereFace2(variant="A", m=0.5)])
def test_the_bias_follows_the_number_of_negatives_as_the_initial_one_does(hp):
    # The two differ by ln(1 - z), z being 2.7e-4 and less here.
    moved = rebalanced_bias(initial_bias(hp, 8631), hp, 8631, hp, 2_000_000)
    assert moved == pytest.approx(initial_bias(hp, 2_000_000), abs=3e-4)
    assert rebalanced_bias(1.25, hp, 1, hp, 2) == 1.25


def test_other_settings_move_the_bias_as_they_move_the_initial_one():
    wider = SphereFace2(r=30.0, m=0.4)
    moved = rebalanced_bias(initial_bias(HP, 100), HP, 100, wider, 100)
    assert moved == pytest.approx(initial_bias(wider, 100), abs=1e-12)


def test_that_bias_is_where_a_calibrated_head_is_in_balance():
    # Similarities of either kind normal with one spread: the likelihood ratio is linear in them,
    # and r makes it the logit. The bias is balanced at 100 identities and moved to others.
    spread, apart, lam = 0.1, 0.15, HP.lam
    r = 2 * apart / spread**2
    balanced = math.log(lam / ((1 - lam) * 99))
    s = torch.linspace(-2, 2, 200_001, dtype=torch.float64)
    negatives, positives = (
        torch.exp(-(((s - mean) / spread) ** 2) / 2) for mean in (-apart, apart)
    )
    for classes in (100, 5000, 7):
        bias = rebalanced_bias(balanced, HP, 100, HP, classes)
        pull = lam * (positives * torch.sigmoid(-(r * s + bias))).sum()
        push = (1 - lam) * (classes - 1) * (negatives * torch.sigmoid(r * s + bias)).sum()
        assert pull.item() == pytest.approx(push.item(), rel=1e-9)


def _on_ranks(folder):
    head, sgd = trained(len(OLD))
    save_head(folder, head, sgd, OLD)
    head, sgd, _ = grafted(folder, NEW, RENAMED)
    return head.weight.detach().numpy(), sgd.weight_momentum.numpy(), head.bias.item()


def test_every_rank_gets_its_own_range(tmp_path):
    ranks = run_ranks(2, _on_ranks, tmp_path)
    assert len(read_head_manifest(tmp_path).files) == 2
    head, sgd, _ = grafted(tmp_path, NEW, RENAMED)
    for part, whole in enumerate((head.weight.detach(), sgd.weight_momentum)):
        assert torch.cat([torch.from_numpy(rank[part]) for rank in ranks]).equal(whole)
    assert [rank[2] for rank in ranks] == [head.bias.item()] * 2


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"nobody": "old 00", "no one": "old 00"}, "'nobody' and 1 more is not in the run to st"),
        ({"old 00": "nobody"}, "'nobody' is not in the training set"),
    ],
)
def test_names_that_are_not_there_are_refused(renamed, message):
    with pytest.raises(Sf2Error, match=message):
        Graft.of(OLD, NEW, renamed)


def test_heads_that_do_not_fit_are_refused(tmp_path):
    head = ShardedHead(3, WIDTH + 1, HP)
    save_head(tmp_path, head, HeadSGD(head, 0.1, momentum=0.0), ["a", "b", "c"])
    with pytest.raises(Sf2Error, match="embedding_size is 7, the recipe's is 6"):
        grafted(tmp_path, NEW, {})


def test_momentum_that_was_not_saved_cannot_be_kept(tmp_path):
    head = ShardedHead(3, WIDTH, HP)
    save_head(tmp_path, head, HeadSGD(head, 0.1, momentum=0.0), ["a", "b", "c"])
    with pytest.raises(Sf2Error, match="saved without momentum"):
        grafted(tmp_path, NEW, {})


def test_opposed_rows_have_no_mean(tmp_path):
    head = ShardedHead(2, WIDTH, HP)
    head.weight.data[1] = -head.weight.data[0]
    save_head(tmp_path, head, HeadSGD(head, 0.1), ["a", "b"])
    with pytest.raises(Sf2Error, match="opposite directions"):
        grafted(tmp_path, ["a", "c"], {"b": "a"})


def _memory(folder, classes, width):
    """Bytes beside shard and momentum at the peak of saving and of grafting `classes` rows."""
    head, sgd = trained_wide(classes, width)
    names = [f"{i:07d}" for i in range(classes)]
    save_head(folder, head, sgd, names)
    del head, sgd
    manifest = read_head_manifest(folder)
    # Every other identity is new, and the order is another one.
    names = [name if i % 2 else f"new {name}" for i, name in enumerate(reversed(names))]
    head = ShardedHead(classes, width, HP)
    sgd = HeadSGD(head, 0.1)
    graft = Graft.of(manifest.identities, names, {})
    sgd.weight_momentum.fill_(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    graft_head(folder, manifest, graft, head, sgd, random_rows(width, 9), keep_momentum=True)
    return _status("VmHWM") - before


def trained_wide(classes, width):
    head = ShardedHead(classes, width, HP)
    sgd = HeadSGD(head, 0.05)
    sgd.one_pass(torch.randn(8, width), torch.arange(8))
    return head, sgd


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts the peak")
def test_a_rank_holds_a_tile_beside_its_shard(tmp_path):
    # 2 ranks of 250,000 rows of 128: 128 MB of rows and as much momentum each.
    for beside in run_ranks(2, _memory, tmp_path, 500_000, 128):
        print(f"beside shard and momentum: {beside / 2**20:.0f} MiB")
        assert beside < 64 << 20
