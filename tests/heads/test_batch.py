"""What goes between the ranks of a head: batches of any size, and sums that are the same on all."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from sf2cli.errors import Sf2Error
from sf2cli.heads.batch import BatchGathering
from sf2cli.heads.ranks import Ranks
from tests.spawn import run_ranks

WIDTH, CLASSES = 6, 2**40
LIKE = torch.zeros(())


def brought(rank, rows, seed):
    generator = torch.Generator().manual_seed(1000 * seed + rank)
    features = torch.randn(rows, WIDTH, generator=generator)
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    return features, labels


def check_gathering(dtype):
    ranks = Ranks.of(None)
    gather = BatchGathering(ranks, CLASSES, WIDTH)
    like = LIKE.to(dtype)

    def refusal(features, labels):
        with pytest.raises((ValueError, Sf2Error)) as caught:
            gather(features, labels, like)
        return str(caught.value)

    def require_whole(rows, seed):
        features, labels = brought(ranks.rank, rows, seed)
        found = gather(features.requires_grad_(), labels, like)
        found.unit.sum().backward()
        assert features.grad is not None
        every = [brought(rank, rows, seed) for rank in range(ranks.size)]
        expected = F.normalize(torch.cat([values for values, _ in every]).to(dtype))
        torch.testing.assert_close(found.everyone, expected)
        assert found.labels.tolist() == torch.cat([ids for _, ids in every]).tolist()

    # Before any size was agreed on, with the agreed one, with others, and back.
    for seed, rows in enumerate((4, 4, 2, 1, 4)):
        require_whole(rows, seed)
    last = ranks.rank == ranks.size - 1
    features, labels = brought(ranks.rank, 4, 9)
    assert f"[{'4, ' * (ranks.size - 1)}3]" in refusal(
        features[: 3 if last else 4], labels[: 3 if last else 4]
    )
    require_whole(4, 5)
    wide = features if not last else torch.cat((features, features), dim=1)
    assert f"features of rank {ranks.size - 1}" in refusal(wide, labels)
    assert f"labels of rank {ranks.size - 1}" in refusal(
        features, labels.float() if last else labels
    )
    assert "batch sizes" in refusal(features[:0], labels[:0])
    assert f"label {CLASSES}" in refusal(features, labels.fill_(CLASSES) if last else labels)
    require_whole(4, 6)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_gathered_whatever_came_before(ranks, dtype):
    run_ranks(ranks, check_gathering, dtype)


def test_one_process_asks_the_same_of_a_batch():
    gather = BatchGathering(Ranks.of(None), 5, WIDTH)
    features, labels = torch.randn(2, WIDTH), torch.tensor([0, 4])
    assert gather(features, labels, LIKE).labels.tolist() == [0, 4]
    with pytest.raises(Sf2Error, match="label 5"):
        gather(features, labels + 1, LIKE)
    with pytest.raises(ValueError, match="batch sizes"):
        gather(features[:0], labels[:0], LIKE)


def check_sums():
    ranks = Ranks.of(None)
    rows = torch.arange(ranks.size * 10, dtype=torch.float32).view(-1, 5) * (1 + ranks.rank)
    # Of very unlike size: another order of the addends would show.
    totals = torch.tensor([1e16, 1.0, -1e16][ranks.rank : ranks.rank + 1] * 2, dtype=torch.float64)
    mine = ranks.sum_and_scatter(rows, totals)
    every = [torch.arange(ranks.size * 10.0).view(-1, 5) * (1 + rank) for rank in range(ranks.size)]
    assert torch.equal(mine, sum(every)[2 * ranks.rank : 2 * ranks.rank + 2])
    assert torch.equal(ranks.sum_and_scatter(rows), mine)
    found = [None] * ranks.size
    dist.all_gather_object(found, totals.tolist())
    return found


@pytest.mark.parametrize("ranks", [2, 3])
def test_totals_have_the_same_bits_on_every_rank(ranks):
    expected = sum(torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64)[:ranks]).item()
    for found in run_ranks(ranks, check_sums):
        assert found == [[expected] * 2] * ranks
