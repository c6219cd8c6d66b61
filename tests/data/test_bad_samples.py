import numpy as np
import pytest

from sf2cli.data.bad_samples import BadSamples
from sf2cli.data.loader import TrainLoader
from sf2cli.data.order import epoch_order, spares
from sf2cli.errors import Sf2Error
from tests.pictures import stored, write_set

SAMPLES, DAMAGED, BATCH = 10_000, 300, 400


def test_a_sample_counts_once_and_one_too_many_lists_all(capsys):
    bad = BadSamples(2)
    for _ in range(3):
        bad.add({5: "five is bad"})
    assert len(bad) == 1
    assert capsys.readouterr().err.count("skipped: five is bad") == 1
    bad.add({3: "three is bad"})
    with pytest.raises(Sf2Error, match=r"^3 damaged samples, where data.max_bad is 2") as failure:
        bad.add({3: "three is bad", 9: "nine is bad"})
    listed = [line.strip() for line in failure.value.message.splitlines()[1:]]
    assert listed == ["three is bad", "five is bad", "nine is bad"]
    assert "data.max_bad" in str(failure.value.remedy)


def test_none_allowed_names_the_first():
    with pytest.raises(Sf2Error, match=r"^five is bad"):
        BadSamples(0).add({5: "five is bad"})


def test_ranks_count_together(capsys):
    bad = BadSamples(2)
    bad.add({5: "five is bad"})
    assert bad.any_new
    bad.join(lambda mine: [mine, {5: "five is bad", 7: "seven is bad"}])
    bad.tell(epoch=4)
    assert len(bad) == 2
    assert not bad.any_new
    assert "epoch 4: 2 damaged samples so far" in capsys.readouterr().err
    with pytest.raises(Sf2Error, match=r"^3 damaged samples"):
        bad.join(lambda mine: [mine, {8: "eight is bad"}])


def test_what_was_met_before_a_resume_counts(capsys):
    bad = BadSamples(2)
    bad.remember({5: "five is bad"})
    assert not bad.any_new
    bad.add({5: "five is bad", 7: "seven is bad"})
    assert capsys.readouterr().err.count("skipped: ") == 1
    with pytest.raises(Sf2Error, match=r"^3 damaged samples"):
        bad.add({8: "eight is bad"})
    with pytest.raises(Sf2Error, match=r"^2 damaged samples"):
        BadSamples(1).remember({5: "five is bad", 7: "seven is bad"})


def test_ranks_stop_together_at_the_batch_that_is_one_too_many(damaged):
    """Another rank met as many as are allowed: the first that this one meets is too many."""
    packed, _ = damaged
    others = {SAMPLES + number: "of another rank" for number in range(DAMAGED)}
    own = loader(packed, gather=lambda mine: [mine, others])
    with pytest.raises(Sf2Error, match=r"^3\d\d damaged samples"):
        next(own.epoch(0))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A set of 4 x 4 pixels that spell the sample's number, some overwritten or cut short."""

    def picture(i):
        return np.array([i // 256, i % 256] * 8, dtype=np.uint8).reshape(4, 4, 1)

    one_of = [stored(picture(i)) for i in range(SAMPLES)]
    images = [one_of[first : first + 10] for first in range(0, SAMPLES, 10)]
    packed = write_set(tmp_path_factory.mktemp("data") / "set", images)
    index = np.load(packed.folder / "index.npy")
    chosen = np.random.default_rng(0).permutation(SAMPLES)[:DAMAGED].tolist()
    # In the middle too, where only decoding finds it.
    for number, i in enumerate(chosen):
        shard, offset, size, _ = index[i]
        with (packed.folder / packed.manifest.shards[shard].file).open("r+b") as tar:
            tar.seek(offset + (0, size // 2)[number % 2])
            tar.write(bytes(size // 3))
    return packed, set(chosen)


def loader(packed, rank=0, world_size=1, **options):
    return TrainLoader(
        packed,
        batch_size=BATCH // world_size,
        rank=rank,
        world_size=world_size,
        seed=3,
        image_size=4,
        channels=1,
        flip=False,
        **{"workers": 0, "max_bad": DAMAGED, **options},
    )


def numbers(batches):
    """The samples that were read, batch by batch; each with its own label."""
    found = []
    for images, labels in batches:
        pixels = images[:, 0, 0].long()
        samples = pixels[:, 0] * 256 + pixels[:, 1]
        assert (samples // 10 == labels).all()
        found.append(samples.tolist())
    return found


def test_300_damaged_of_10k_are_replaced_alike_on_any_ranks_and_workers(damaged, capsys):
    """The oracle: the order, with the first good spare in the place of each damaged sample."""
    packed, chosen = damaged
    order = epoch_order(SAMPLES, 3, 1).tolist()
    expected = [
        next(s for s in [i, *spares(SAMPLES, 3, 1, i, 100).tolist()] if s not in chosen)
        for i in order
    ]
    batches = [expected[k : k + BATCH] for k in range(0, SAMPLES, BATCH)]
    alone = loader(packed, workers=2)
    assert numbers(alone.epoch(1)) == batches
    assert len(alone.bad_samples) == DAMAGED
    told = capsys.readouterr().err
    assert told.count("skipped: packed set") == DAMAGED
    assert f"epoch 1: {DAMAGED} damaged samples" in told

    said = []
    second = loader(packed, 1, 2, gather=lambda mine: said.append(mine) or [mine])
    halves = [[], numbers(second.epoch(1))]
    first = loader(packed, 0, 2, gather=lambda mine: [mine, *said])
    halves[0] = numbers(first.epoch(1))
    assert [a + b for a, b in zip(*halves, strict=True)] == batches
    assert 0 < len(second.bad_samples) < DAMAGED == len(first.bad_samples)


def test_one_more_than_allowed_fails_with_the_list(damaged):
    packed, chosen = damaged
    few = loader(packed, max_bad=DAMAGED - 1)
    with pytest.raises(Sf2Error, match=f"^{DAMAGED} damaged samples") as failure:
        list(few.epoch(0))
    listed = failure.value.message.splitlines()[1:]
    assert len(listed) == DAMAGED
    for line, i in zip(listed, sorted(chosen), strict=True):
        assert f"sample {i:09d} of set-0000" in line
        assert f".tar (id{i // 10}/{i % 10}): " in line
