"""What a run tells of itself: metrics, validation, TensorBoard, W&B, the page, `sf2 watch`."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from sf2cli.backbones.saved import load_model
from tests.command import sf2, sf2_ranks
from tests.training.small import CONFIGS, STEPS, lines_of, losses_of, metrics_of, ranks, write_place

TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json")
VALIDATED = ("--set", "validation={sets: [set], every_steps: 2}")
OFFLINE = {"WANDB_MODE": "offline"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def watched(place):
    """A run on two ranks, watched by all there is, and what it printed."""
    options = (*VALIDATED, "--set", "watch={tensorboard: true, wandb: faces}")
    envs = [{**env, **OFFLINE} for env in ranks(2)]
    options = (*options, "--set", "checkpoint.every_steps=2", "--out", "watched")
    first, second = sf2_ranks(envs, *TRAIN, *options, cwd=place)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    return place / "watched", first


def test_every_step_says_how_it_went(watched):
    steps = [line for line in metrics_of(watched[0]) if "loss" in line]
    assert [line["step"] for line in steps] == [*range(1, STEPS + 1)]
    for line in steps:
        assert -1 <= line["negative_similarity"] <= 1
        assert -1 <= line["positive_similarity"] <= 1
        assert 0 <= line["positives_above"] <= 1
        assert 0 <= line["negatives_above"] <= 1
        assert line["gradient_norm"] > 0
        assert line["weight_norm"] > 1
        assert {"lr", "bias"} < line.keys()
    clocks = json.loads((watched[0] / "metrics.jsonl").read_text().splitlines()[0])
    assert clocks["memory_gib"] > 0.1
    assert {"images_per_s", "data_wait"} < clocks.keys()


def test_validating_on_the_training_set_is_told_once(watched, place):
    warned = "warning: validation.sets: set is the training set itself"
    assert watched[1].err.count(warned) == 1
    shutil.copytree(place / "set", place / "again")
    options = ("--set", "validation={sets: [again]}", "--set", "schedule.steps=1")
    assert warned.replace("set is", "again is") in sf2(*TRAIN, *options, cwd=place).err


def test_watching_changes_nothing(watched, place):
    for done in sf2_ranks(ranks(2), *TRAIN, "--out", "plain", cwd=place):
        assert done.code == 0, done.err
    found = [line["loss"] for line in metrics_of(watched[0]) if "loss" in line]
    assert found == losses_of(place / "plain")
    models = (load_model(run)[0].state_dict() for run in (watched[0], place / "plain"))
    for one, other in zip(*(model.values() for model in models), strict=True):
        assert one.equal(other)


def test_norms_are_the_same_under_any_zero_stage(place):
    found = []
    for stage in (0, 1, 3):
        ds = ("--deepspeed", CONFIGS / f"ds_zero{stage}.json")
        done = sf2("train", "recipe.yaml", *ds, "--out", f"norms-{stage}", cwd=place)
        assert done.code == 0, done.err
        line = metrics_of(place / f"norms-{stage}")[1]
        found.append([line["gradient_norm"], line["weight_norm"]])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_validation_gives_what_eval_gives(watched, place):
    done = sf2("eval", watched[0], "--set", "set", "--out", "report", "--json", cwd=place)
    assert done.code == 0, done.err
    expected = json.loads(done.out)["sets"][0]["results"]["model"]
    validated = [line for line in lines_of(watched[0]) if "validation/eer" in line]
    assert [line["step"] for line in validated] == [2, STEPS]
    for name in ("eer", "auc", "accuracy"):
        assert validated[-1][f"validation/set/{name}"] == pytest.approx(expected[name], abs=1e-6)
    tar = expected["tar_at_far"][0]
    assert validated[-1]["validation/set/TAR at FAR 10%"] == pytest.approx(tar["tar"])


def test_the_best_model_is_kept(watched):
    run, said = watched
    rates = {
        line["step"]: line["validation/eer"] for line in lines_of(run) if "validation/eer" in line
    }
    step = min(rates, key=rates.get)
    module, card = load_model(run / "best")
    best = card.training["best"]
    assert best.pop("sets").keys() == {"set"}
    assert best == {"step": step, "metric": "eer", "value": rates[step]}
    assert f"step {step}: best model so far, eer {rates[step]:.4f}" in said.err
    saved = load_file(run / "checkpoints" / f"step-{step:08d}" / "backbone.safetensors")
    assert all(module.state_dict()[name].equal(value) for name, value in saved.items())


def test_a_better_model_replaces_the_best_after_a_resume_and_no_other(watched, place):
    run, _ = watched
    card = run / "best" / "model.json"
    kept = card.read_text()
    options = (*VALIDATED, "--out", run, "--resume", "--set", "schedule.steps=5")

    def going_on(value):
        content = json.loads(kept)
        content["training"]["best"]["value"] = value
        card.write_text(json.dumps(content))
        done = sf2(*TRAIN, *options, "--set", "checkpoint.every_steps=9", cwd=place)
        assert done.code == 0, done.err
        shown = json.loads(card.read_text())["training"]["best"]
        # As if the last checkpoint had not been written: the next one goes on from step 4 too.
        shutil.rmtree(run / "checkpoints" / "step-00000005")
        return shown

    assert going_on(0.0)["value"] == 0
    assert going_on(1.0)["step"] == 5


def test_tensorboard_has_the_numbers(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(watched[0] / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}
    assert losses == {
        line["step"]: line["loss"] for line in metrics_of(watched[0]) if line["step"] <= STEPS
        and "loss" in line
    }  # fmt: skip
    assert [event.step for event in events.Scalars("validation/set/eer")] == [2, STEPS]


def test_wandb_has_the_numbers(watched):
    folder = watched[0] / "wandb"
    name = (folder / "run-id").read_text()
    (record,) = folder.glob(f"offline-run-*-{name}/run-{name}.wandb")
    assert all(field in record.read_bytes() for field in (b"negatives_above", b"validation/eer"))


def test_the_page_shows_the_run(watched):
    page = (watched[0] / "training.html").read_text()
    assert "Training: tiny" in page
    for title in ("Loss", "Similarity (mean cosine)", "Validation: EER", "Backbone norms"):
        assert f"<figcaption>{title}" in page
    assert "best eer in validation" in page
    assert not [word for word in ("http://", "https://", "src=", "<script") if word in page]


def test_watch_prints_once_where_it_is_piped(watched, place):
    done = sf2("watch", "watched", cwd=place)
    assert (done.code, done.err) == (0, ""), done.err
    last = max(line["step"] for line in metrics_of(watched[0]))
    assert done.out.startswith(f"watched: step {last}, finished, loss ")
    for title in ("loss, log axis", "similarity (mean cosine)", "validation: EER", "bias"):
        assert title in done.out


def test_watch_follows_a_run_on_a_terminal_until_ctrl_c(place):
    run = place / "going"
    run.mkdir()
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 3.0}) + "\n")
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "sf2cli.cli", "watch", "going", "--every", "0.1"]
    process = subprocess.Popen(line, cwd=place, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen = ""

    def until(text):
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(ours, 65536).decode()

    try:
        until("going: step 1, loss 3.0000")
        with (run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": 2, "loss": 2.5}) + "\n")
        until("going: step 2, loss 2.5000")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("validation.sets=[nowhere]", "packed set nowhere: no such folder"),
        ("validation.sets=[set, set]", "validation.sets: two are called set"),
        ("validation.sets=[]", "validation.sets: List should have at least 1 item"),
    ],
)
def test_validation_that_cannot_be_done_is_refused_at_the_start(setting, message, place):
    done = sf2(*TRAIN, "--set", setting, "--out", "refused", cwd=place)
    assert done.code == 1
    assert message in done.err
    assert not (place / "refused").exists()


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "nowhere/metrics.jsonl: cannot be read"), ("empty", "no step was measured yet")],
)
def test_watch_says_what_it_cannot_show(folder, message, place):
    (place / "empty").mkdir(exist_ok=True)
    (place / "empty" / "metrics.jsonl").touch()
    done = sf2("watch", folder, cwd=place)
    assert done.code == 1
    assert message in done.err
