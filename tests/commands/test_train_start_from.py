"""`sf2 train --start-from`: a run that begins with another one's backbone and identities."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sf2cli.backbones.saved import load_model
from sf2cli.data.packed import PackedSet
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.open_embedder import open_embedder
from tests.command import sf2, sf2_ranks
from tests.pictures import noise, stored, write_set
from tests.training.small import losses_of, ranks, write_place

# A balanced bias moves whatever the learning rate is.
LEARNED = ("--set", "head={bias: learned, curriculum: null}")
TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json", *LEARNED)
# So small a step that the rows stay where they began.
STILL = ("--set", "data.shards=more", "--set", "optimizer.lr=1e-30", "--set", "schedule.steps=1")
NAMES = ["anna", "id4", "id1", "berta", "id3", "zoe"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The finished run runs/tiny on id0 ... id4, and the set `more` of NAMES."""
    place = write_place(tmp_path_factory.mktemp("start"))
    done = sf2(*TRAIN, "--set", "optimizer.lr=0.1", cwd=place)
    assert done.code == 0, done.err
    pictures = [stored(noise(16, 16, 1, 100 + i)) for i in range(6 * len(NAMES))]
    by_name = [pictures[6 * i : 6 * i + 6] for i in range(len(NAMES))]
    write_set(place / "more", by_name, names=NAMES)
    return place


def head_of(run):
    """The rows of the run's last checkpoint and its head.json."""
    head = max((run / "checkpoints").glob("step-*")) / "head"
    files = [load_file(path)["weight"] for path in sorted(head.glob("*.safetensors"))]
    return torch.cat(files).float(), json.loads((head / "head.json").read_text())


def test_rows_are_carried_by_name_and_new_ones_are_mean_embeddings(place):
    done = sf2(*TRAIN, *STILL, "--start-from", "runs/tiny", "--out", "grown", cwd=place)
    assert done.code == 0, done.err
    said = "started from runs/tiny/checkpoints/step-00000004: 3 rows carried, 0 merged into 0,"
    assert f"{said} 3 new, 2 dropped; bias " in done.err
    old, old_json = head_of(place / "runs" / "tiny")
    new, new_json = head_of(place / "grown")
    assert new_json["identities"] == NAMES
    assert new_json["bias"] == pytest.approx(old_json["bias"] + np.log(4 / 5), abs=1e-5)
    packed = PackedSet.open(place / "more")
    rows = torch.from_numpy(unit_rows(open_embedder(place / "runs" / "tiny").embed(packed, "")))
    for i, name in enumerate(NAMES):
        expected = old[int(name[2:])] if name.startswith("id") else rows[packed.labels == i].mean(0)
        expected = torch.nn.functional.normalize(expected, dim=0)
        torch.testing.assert_close(new[i], expected, rtol=0, atol=2e-6)
    model, first = (load_model(place / run)[0].state_dict() for run in ("grown", "runs/tiny"))
    assert all(model[name].equal(value) for name, value in first.items() if "running" not in name
               and "num_batches" not in name)  # fmt: skip


def test_a_start_that_carries_no_row_is_warned_of(place):
    write_set(place / "strangers", [[stored(noise(16, 16, 1, 7))] * 8] * 2, names=["eve", "fay"])
    options = (*STILL, "--set", "data.shards=strangers", "--set", "start.new_identities=random")
    done = sf2(*TRAIN, *options, "--start-from", "runs/tiny", "--out", "none", cwd=place)
    assert done.code == 0, done.err
    assert "0 rows carried" in done.err
    assert "warning: runs/tiny and packed set strangers have no identity's name in" in done.err


def test_ranks_start_as_one_process_does(place):
    # BatchNorm sees half of the batch on each of two ranks.
    plain = (*TRAIN, "--set", "backbone.name=sfnet4")
    done = sf2(*plain, "--set", "optimizer.lr=0.1", "--out", "plain", cwd=place)
    assert done.code == 0, done.err
    options = ("--start-from", "plain", "--set", "start.renamed=renamed.tsv")
    (place / "renamed.tsv").write_text("id0\tid1\nid2\tzoe\n")
    options = (*options, "--set", "start.momentum=keep", "--set", "start.new_identities=random")
    for done in sf2_ranks(ranks(2), *plain, *STILL, *options, "--out", "two", cwd=place):
        assert done.code == 0, done.err
    done = sf2(*plain, *STILL, *options, "--out", "one", cwd=place)
    assert done.code == 0, done.err
    assert "3 rows carried, 2 merged into 1, 2 new, 0 dropped" in done.err
    assert head_of(place / "two")[0].equal(head_of(place / "one")[0])
    assert losses_of(place / "two") == pytest.approx(losses_of(place / "one"), rel=1e-4)


def test_a_started_run_goes_on_without_the_run_it_came_from(place):
    start = ("--start-from", "runs/tiny", "--set", "checkpoint.every_steps=1")
    done = sf2(*TRAIN, *STILL, *start, "--out", "child", cwd=place)
    assert done.code == 0, done.err
    gone = ("--start-from", "gone", "--set", "schedule.steps=2", "--resume")
    done = sf2(*TRAIN, *STILL, *gone, "--out", "child", cwd=place)
    assert done.code == 0, done.err
    assert "going on from child/checkpoints/step-00000001 (step 1 of 2)" in done.err


def test_images_that_cannot_be_read_are_named_and_left_out_of_the_mean(place):
    packed = PackedSet.open(shutil.copytree(place / "more", place / "torn"))
    shard, offset, _, _ = np.load(packed.folder / "index.npy")[0]
    with (packed.folder / packed.manifest.shards[shard].file).open("r+b") as tar:
        tar.seek(offset)
        tar.write(b"????")
    args = (*TRAIN, *STILL, "--start-from", "runs/tiny", "--set", "data.shards=torn")
    done = sf2(*args, "--out", "torn-run", cwd=place)
    assert done.code == 1
    assert "error: packed set torn: sample 000000000 of" in done.err
    done = sf2(*args, "--set", "data.max_bad=1", "--out", "torn-run", cwd=place)
    assert done.code == 0, done.err
    assert done.err.count("warning: skipped: ") == 1
    rows = torch.from_numpy(unit_rows(open_embedder(place / "runs" / "tiny").embed(
        PackedSet.open(place / "more"), "")))  # fmt: skip
    expected = torch.nn.functional.normalize(rows[1:6].mean(0), dim=0)
    torch.testing.assert_close(head_of(place / "torn-run")[0][0], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start-from", "set"), "start.run set: neither a run with a checkpoint nor a"),
        (("--set", "backbone.embedding_size=16"), "is not of this recipe's backbone"),
        (("--set", "start.renamed=none.tsv"), "start.renamed none.tsv: cannot be read"),
        (("--set", "start.renamed=ds.json"), "ds.json, line 1: expected OLD, one tab, NEW; found"),
        (("--set", "start.renamed=typo.tsv"), "identity 'id9' is not in the run to start from"),
        (("--set", "start.renamed=twice.tsv"), "line 2: 'id0' was given a name before"),
    ],
)
def test_what_cannot_be_started_from_is_refused(options, message, place):
    (place / "typo.tsv").write_text("id9\tid1\n")
    (place / "twice.tsv").write_text("id0\tid1\nid0\tid1\n")
    done = sf2(*TRAIN, *STILL, "--set", "start.run=runs/tiny", *options, "--out", "no", cwd=place)
    assert done.code == 1
    assert message in done.err
    assert not (place / "no").exists()
