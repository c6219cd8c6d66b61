"""What stays of a run's course when it goes on: curriculum, best model, damaged samples, start."""

import json
import shutil

import numpy as np
import pytest

from sf2cli.backbones.saved import load_model
from sf2cli.data.order import epoch_order
from tests.command import sf2, sf2_ranks
from tests.training.small import BATCH, IDENTITIES, IMAGES, metrics_of, ranks, write_place

TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json")


def settings(*values):
    return [part for value in values for part in ("--set", value)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("course"))


GROWING = settings("checkpoint.every_steps=1", "checkpoint.keep_last=9", "head.curriculum.share=1")
VALIDATED = settings("validation={sets: [set], every_steps: 1}")


@pytest.fixture(scope="module")
def growing(place):
    """A finished run of four steps in which r grows until the last, and what it said."""
    done = sf2(*TRAIN, *GROWING, *VALIDATED, "--out", "growing", cwd=place)
    assert done.code == 0, done.err
    return place / "growing", done.err


def cut(run, step, name):
    """A copy of a run as it stood at a checkpoint."""
    copy = shutil.copytree(run, run.parent / name)
    for checkpoint in (copy / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


def test_a_longer_run_goes_on_in_the_curriculum_it_began_with(growing, place):
    run, said = growing
    assert "negatives, r 10 to 40 over 4 steps\n" in said
    assert [line["scale"] for line in metrics_of(run)] == [10.0, 17.5, 25.0, 32.5]
    copy = cut(run, 2, "longer")
    args = (*TRAIN, *GROWING, *VALIDATED, *settings("schedule.steps=6"), "--out", copy)
    done = sf2(*args, "--resume", cwd=place)
    assert done.code == 0, done.err
    assert "from here on with schedule.steps 4 -> 6\n" in done.err
    assert [line["scale"] for line in metrics_of(copy)] == [10.0, 17.5, 25.0, 32.5, 40.0, 40.0]


def test_a_model_has_the_scale_that_its_bias_was_balanced_with(growing, place):
    run, _ = growing
    scales = {line["step"]: line["scale"] for line in metrics_of(run)}
    card = load_model(run / "best")[1]
    assert card.head["r"] == scales[card.training["best"]["step"]] < 40
    assert load_model(run)[1].head["r"] == 32.5
    # With nothing left to do the head has taken no step.
    copy = cut(run, 4, "again")
    done = sf2(*TRAIN, *GROWING, *VALIDATED, "--out", copy, "--resume", cwd=place)
    assert done.code == 0, done.err
    assert load_model(copy)[1].head == load_model(run)[1].head


def test_the_best_of_another_set_is_not_compared(growing, place):
    run, _ = growing
    shutil.copytree(place / "set", place / "other", dirs_exist_ok=True)
    manifest = place / "other" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "other"}))
    copy = cut(run, 3, "other-best")
    card = copy / "best" / "model.json"
    content = json.loads(card.read_text())
    content["training"]["best"]["value"] = 0.0
    card.write_text(json.dumps(content))
    others = settings("validation={sets: [other], every_steps: 1}")
    done = sf2(*TRAIN, *GROWING, *others, "--out", copy, "--resume", cwd=place)
    assert done.code == 0, done.err
    assert f"{copy}/best is the best by eer on set, which is not what validation" in done.err
    assert "from here on with validation.sets ['set'] -> ['other']\n" in done.err
    best = json.loads(card.read_text())["training"]["best"]
    assert (best["step"], list(best["sets"])) == (4, ["other"])


def test_what_is_no_longer_done_is_named_and_a_start_is_not_made_twice(growing, place):
    run, _ = growing
    copy = cut(run, 3, "dropped")
    args = (*TRAIN, *GROWING, "--out", copy, "--resume")
    done = sf2(*args, *settings("start.run=nowhere"), cwd=place)
    assert done.code == 0, done.err
    assert "validation.sets ['set'] -> None" in done.err
    assert "start.run None -> nowhere (of no effect: the run has begun)" in done.err
    again = settings("start.run=nowhere", "head={}")
    done = sf2(*TRAIN, *again, "--out", copy, "--resume", cwd=place)
    assert done.code == 1
    assert "--resume: head.curriculum.r is None, the run has 10.0" in done.err


def test_what_fails_on_one_rank_before_the_first_step_ends_all(place):
    (place / "blocked").mkdir()
    (place / "blocked" / "tensorboard").write_text("")
    watched = settings("watch.tensorboard=true")
    ended = sf2_ranks(ranks(2), *TRAIN, *watched, "--out", "blocked", cwd=place)
    for done in ended:
        assert done.code == 1
        assert "error: watch.tensorboard: blocked/tensorboard cannot be written" in done.err
        assert "Traceback" not in done.err


def test_damaged_samples_of_before_a_resume_count(place):
    shutil.copytree(place / "set", place / "damaged")
    index = np.load(place / "damaged" / "index.npy")
    order = epoch_order(IDENTITIES * IMAGES, 0, 0).tolist()
    # One in the first batch and one in the second.
    for sample in (order[0], order[BATCH]):
        with (place / "damaged" / "set-000000.tar").open("r+b") as tar:
            tar.seek(index[sample][1])
            tar.write(b"????")
    args = (*TRAIN, *settings("data.shards=damaged", "data.max_bad=1"), "--out", "skipping")
    done = sf2(*args, *settings("schedule.steps=1"), cwd=place)
    assert done.code == 0, done.err
    assert done.err.count("warning: skipped: ") == 1
    done = sf2(*args, *settings("schedule.steps=2"), "--resume", cwd=place)
    assert done.code == 1
    assert "error: 2 damaged samples, where data.max_bad is 1:\n" in done.err
