from itertools import chain

import numpy as np
import pytest
import torch

from sf2cli.data.augment import Augment
from sf2cli.data.degrade import Degrade
from sf2cli.data.loader import TrainLoader
from sf2cli.data.order import epoch_flips, epoch_order
from sf2cli.errors import Sf2Error
from tests.pictures import stored, write_set

SAMPLES, IDENTITIES, GLOBAL_BATCH = 23, 5, 6


def picture(i):
    """Sample `i`: its number on the left, 200 on the right, so that mirroring shows."""
    pixels = np.full((4, 4, 1), i, dtype=np.uint8)
    pixels[:, 2:] = 200
    return pixels


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    images = [
        [stored(picture(i)) for i in range(SAMPLES) if i * IDENTITIES // SAMPLES == label]
        for label in range(IDENTITIES)
    ]
    return write_set(tmp_path_factory.mktemp("data") / "set", images, shard_bytes=8000)


def loader(packed, rank=0, world_size=1, flip=True, workers=0, seed=7):
    return TrainLoader(
        packed,
        batch_size=GLOBAL_BATCH // world_size,
        rank=rank,
        world_size=world_size,
        seed=seed,
        image_size=4,
        channels=1,
        flip=flip,
        workers=workers,
    )


def drawn(batches):
    """What was read, batch by batch: [(sample, mirrored, label), ...]."""
    found = []
    for images, labels in batches:
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert images.shape[1:] == (1, 4, 4)
        rows = []
        for image, label in zip(images[:, 0], labels.tolist(), strict=True):
            mirrored = bool((image[:, 0] == 200).all())
            plain = image.flip(-1) if mirrored else image
            sample = int(plain[0, 0])
            assert (plain.numpy() == picture(sample)[:, :, 0]).all()
            rows.append((sample, mirrored, label))
        found.append(rows)
    return found


def test_an_epoch_is_what_order_and_flips_say(packed):
    """The oracle: the permutation cut into batches, mirrored as drawn, labels looked up."""
    order, flips = epoch_order(SAMPLES, 7, 3), epoch_flips(SAMPLES, 7, 3)
    expected = [
        [(int(i), bool(flips[i]), packed.label(int(i))) for i in order[k : k + GLOBAL_BATCH]]
        for k in range(0, SAMPLES - GLOBAL_BATCH + 1, GLOBAL_BATCH)
    ]
    assert drawn(loader(packed).epoch(3)) == expected
    assert 0 < flips[order].sum() < SAMPLES


def test_each_sample_at_most_once_and_the_remainder_changes(packed):
    left_out = set()
    for epoch in range(8):
        batches = drawn(loader(packed).epoch(epoch))
        assert [len(batch) for batch in batches] == [GLOBAL_BATCH] * (SAMPLES // GLOBAL_BATCH)
        samples = [sample for batch in batches for sample, _, _ in batch]
        assert len(set(samples)) == len(samples)
        left_out.add(frozenset(range(SAMPLES)) - frozenset(samples))
    assert {len(rest) for rest in left_out} == {SAMPLES % GLOBAL_BATCH}
    assert len(left_out) == 8
    assert len(frozenset.union(*left_out)) > 2 * (SAMPLES % GLOBAL_BATCH)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_the_same_batches(packed, world_size):
    ranks = [loader(packed, rank, world_size) for rank in range(world_size)]
    assert {one.batches_per_epoch for one in ranks} == {SAMPLES // GLOBAL_BATCH}
    parts = [drawn(one.epoch(2)) for one in ranks]
    joined = [list(chain(*slices)) for slices in zip(*parts, strict=True)]
    assert joined == drawn(loader(packed).epoch(2))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_outlive_an_epoch(packed, workers):
    here, there = loader(packed), loader(packed, workers=workers)
    for epoch in (0, 1):
        assert drawn(there.epoch(epoch)) == drawn(here.epoch(epoch))
    # An epoch that is left early leaves nothing behind for the next one.
    next(there.epoch(2))
    assert drawn(there.epoch(3, 1)) == drawn(here.epoch(3, 1))


def test_changed_images_are_the_same_for_workers_and_after_a_resume(packed):
    def batches(workers, start):
        changed = TrainLoader(
            packed,
            batch_size=GLOBAL_BATCH,
            rank=0,
            world_size=1,
            seed=7,
            image_size=4,
            channels=1,
            flip=True,
            workers=workers,
            limits=Augment(shift=1, brightness=0.3),
            chances=Degrade(crop=0.5, low_resolution=0.5, jitter=0.5),
        )
        return [images for images, _ in changed.epoch(2, start)]

    whole = batches(0, 0)
    for workers, start in ((1, 0), (0, 1)):
        for found, expected in zip(batches(workers, start), whole[start:], strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("start", range(SAMPLES // GLOBAL_BATCH + 1))
def test_an_epoch_resumes_at_a_batch(packed, start, monkeypatch):
    whole = drawn(loader(packed).epoch(1))
    read = []
    monkeypatch.setattr(type(packed), "read", counted(type(packed).read, read))
    assert drawn(loader(packed).epoch(1, start)) == whole[start:]
    assert len(read) == GLOBAL_BATCH * (len(whole) - start)


def counted(read, calls):
    def reading(self, i):
        calls.append(i)
        return read(self, i)

    return reading


def test_flip_off_mirrors_nothing(packed):
    plain = drawn(loader(packed, flip=False).epoch(0))
    mirrored = drawn(loader(packed, flip=True).epoch(0))
    assert not any(flipped for batch in plain for _, flipped, _ in batch)
    assert [[row[::2] for row in batch] for batch in mirrored] == [
        [row[::2] for row in batch] for batch in plain
    ]


def test_seeds_differ(packed):
    assert drawn(loader(packed, seed=1).epoch(0)) != drawn(loader(packed, seed=2).epoch(0))


def test_a_set_smaller_than_a_batch_is_refused(packed):
    with pytest.raises(Sf2Error, match=r"has 23 images, fewer than one global batch of 24 \(2"):
        TrainLoader(
            packed,
            batch_size=12,
            rank=0,
            world_size=2,
            seed=0,
            image_size=4,
            channels=1,
            flip=False,
            workers=0,
        )


def test_keys_name_the_rows_of_a_rank(packed):
    for rank in (0, 1):
        one = loader(packed, rank, world_size=2)
        for number, rows in enumerate(drawn(one.epoch(4))):
            named = [one.keys(4, number), loader(packed, rank, world_size=2).keys(4, number)]
            expected = [packed.source(sample) for sample, _, _ in rows]
            assert named == [expected, expected]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1), (2, 6)])
def test_another_number_of_ranks_goes_on_with_the_same_samples(packed, before, after):
    """Real loaders with a worker each: the batches before the change and after it are an epoch."""

    def together(world_size, start):
        parts = [
            drawn(loader(packed, rank, world_size, workers=int(rank == 0)).epoch(5, start))
            for rank in range(world_size)
        ]
        return [list(chain(*slices)) for slices in zip(*parts, strict=True)]

    whole = drawn(loader(packed).epoch(5))
    seen = together(before, 0)[:1]
    assert seen + together(after, 1) == whole
    drawn_once = [sample for batch in whole for sample, _, _ in batch]
    assert len(set(drawn_once)) == len(whole) * GLOBAL_BATCH
