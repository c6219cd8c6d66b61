"""What `sf2 train` may be fed with: shards of anyone's, from anywhere, some of them damaged."""

import shutil

import numpy as np
import pytest

from tests.command import sf2, sf2_ranks
from tests.commands.test_train import TRAIN
from tests.data.plain_shards import served
from tests.training.small import losses_of, ranks, write_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The packed set `set`; its tar alone in `plain`; and `damaged`, with one image overwritten."""
    folder = write_place(tmp_path_factory.mktemp("sets"))
    (folder / "plain").mkdir()
    shutil.copy(folder / "set" / "set-000000.tar", folder / "plain" / "x-0.tar")
    shutil.copytree(folder / "set", folder / "damaged")
    _, offset, _, _ = np.load(folder / "set" / "index.npy")[13]
    with (folder / "damaged" / "set-000000.tar").open("r+b") as tar:
        tar.seek(offset)
        tar.write(b"????")
    return folder


def test_the_same_samples_make_the_same_run_wherever_they_lie(place):
    with served(place) as (url, _):
        words = {
            "set": "set",
            "plain": "plain",
            "pipe": "pipe:cat plain/x-0.tar",
            "http": f"{url}/set",
        }
        for out, word in words.items():
            settings = ("--set", f"data.shards={word!r}", "--set", "data.cache=cache")
            done = sf2(*TRAIN, *settings, "--out", out + "-run", cwd=place)
            assert done.code == 0, done.err
    expected = losses_of(place / "set-run")
    assert len(set(expected)) == len(expected)
    for out in words:
        assert losses_of(place / f"{out}-run") == expected, out


def test_a_damaged_image_ends_a_run_unless_it_may_be_skipped(place):
    damaged = (*TRAIN, "--set", "data.shards=damaged", "--set", "schedule.steps=7")
    done = sf2(*damaged, "--out", "refused", cwd=place)
    assert done.code == 1
    assert "sample 000000013 of set-000000.tar" in done.err
    assert "--set data.max_bad=N" in done.err

    ended = sf2_ranks(ranks(2), *damaged, "--set", "data.max_bad=1", "--out", "skipped", cwd=place)
    assert [rank.code for rank in ended] == [0, 0], ended[0].err + ended[1].err
    # One of the ranks met it in each epoch; the first tells of it at the epoch's end.
    assert any("skipped: packed set damaged: sample 000000013" in rank.err for rank in ended)
    assert "epoch 1: 1 damaged samples so far, of 1" in ended[0].err
    assert len(losses_of(place / "skipped")) == 7
