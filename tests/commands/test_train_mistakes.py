"""What a user can get wrong with `sf2 train`: one message, status 1 or 2, nothing left behind."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from sf2cli.cli import main
from sf2cli.training import start
from sf2cli.training.lock import locked
from sf2cli.training.metrics import MetricsFile
from tests.command import sf2, sf2_ranks
from tests.pictures import files_below
from tests.training.small import BATCH, CONFIGS, RECIPE, metrics_of, write_place

TRAIN = ("train", "recipe.yaml", "--deepspeed", "ds.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a sound recipe, ds.json and set, and unsound ones beside them."""
    folder = write_place(tmp_path_factory.mktemp("mistakes"))
    (folder / "text.yaml").write_text("a: [")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "unknown.yaml").write_text(RECIPE + "colour: red\n")
    (folder / "accumulate.json").write_text('{"gradient_accumulation_steps": 2}')
    (folder / "text.json").write_text("{")
    (folder / "list.json").write_text("[]")
    refused = {
        "optimizer": {"optimizer": {"type": "OneBitAdam"}},
        "fp16": {"fp16": {"enabled": True}},
        "clipping": {"gradient_clipping": 1.0},
        "profiler": {"flops_profiler": {"enabled": True}},
        "offload_param": {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}},
        "unknown": {"colour": "red"},
        "bucket": {"zero_optimization": {"stage": 2, "reduce_bucket_size": "big"}},
        "misspelt": {"zero_optimisation": {"stage": 1}},
        "deep": {"zero_optimization": {"stge": 1}},
        "communication": {"communication_data_type": "fp8"},
    }
    for name, config in refused.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    for name in ("cut", "broken"):
        shutil.copytree(folder / "set", folder / name)
    shard = folder / "cut" / "set-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1000])
    (folder / "broken" / "manifest.json").write_text("{")
    (folder / "run" / "checkpoints" / "step-00000004").mkdir(parents=True)
    (folder / "run" / "metrics.jsonl").write_text("")
    (folder / "file").write_text("")
    (folder / "thesis").mkdir()
    for name in ("chapter1.tex", "chapter2.tex", ".hidden"):
        (folder / "thesis" / name).write_text("")
    (folder / "latin.yaml").write_bytes(b"name: M\xfcller")
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["none.yaml", "--deepspeed", "ds.json"], ["recipe none.yaml: no such file"]),
        (["text.yaml", "--deepspeed", "ds.json"], ["recipe text.yaml: not YAML"]),
        (["list.yaml", "--deepspeed", "ds.json"], ["list.yaml: expected a mapping", "found list"]),
        (["unknown.yaml", "--deepspeed", "ds.json"], ["unknown field colour (found 'red')\n"]),
        (["set", "--deepspeed", "ds.json"], ["recipe set: cannot be read (Is a directory)"]),
        (["latin.yaml", "--deepspeed", "ds.json"], ["latin.yaml: cannot be read (not UTF-8 text)"]),
        (["recipe.yaml", "--deepspeed", "set"], ["--deepspeed set: cannot be read (Is a dir"]),
        (["--hostfile", "none"], ["--hostfile none: cannot be read (No such file or directory)"]),
        (["--set", "optimizer.lrr=1"], ["optimizer.lrr (found 1); did you mean optimizer.lr?"]),
        (["--set", "head.loss=arcfce"], ["'arcfce', expected", "; did you mean arcface?"]),
        (["--set", "head.lambda=1.5"], ["head.lambda", "less than 1", "found 1.5"]),
        (["--set", "batch_size=1"], ["batch_size 1 leaves 1 image", "sfnet4_bn needs 2"]),
        (["--set", "head.variant=M"], ["head", "m is 0.4", "variant M"]),
        (["--set", "head.t=0.5"], ["head.t", "found 0.5"]),
        (["--set", "name=2024-02-30"], ["--set name=2024-02-30: the value is not YAML"]),
        (
            ["recipe.yaml", "--deepspeed", "bucket.json"],
            ["reduce_bucket_size: expected a number", "found 'big'"],
        ),
        (
            ["recipe.yaml", "--deepspeed", "communication.json"],
            ["communication_data_type: expected fp32, fp16, bf16, found 'fp8'"],
        ),
        (["--set", "backbone.name=none"], ["none", "sfnet4_bn"]),
        (["--set", "backbone.name=iresnet5"], ["not a backbone; did you mean iresnet50?"]),
        (["recipe.yaml", "--deepspeed", "none.json"], ["--deepspeed none.json: no such file"]),
        (["recipe.yaml", "--deepspeed", "text.json"], ["--deepspeed text.json: not JSON"]),
        (["recipe.yaml", "--deepspeed", "list.json"], ["expected an object, found list"]),
        (["recipe.yaml", "--deepspeed", "optimizer.json"], ["optimizer.type", "'OneBitAdam'"]),
        (["recipe.yaml", "--deepspeed", "fp16.json"], ["fp16.enabled", "precision is fp32"]),
        (["recipe.yaml", "--deepspeed", "profiler.json"], ["flops_profiler: sf2 cannot honour"]),
        (["recipe.yaml", "--deepspeed", "offload_param.json"], [".offload_param: sf2 cannot"]),
        (
            ["recipe.yaml", "--deepspeed", "clipping.json", "--set", "head.negatives=0.5"],
            ["head.negatives is 0.5", "gradient_clipping is 1.0"],
        ),
        (
            ["recipe.yaml", "--deepspeed", "unknown.json"],
            ["colour: not a setting of DeepSpeed", "Remove it"],
        ),
        (
            ["recipe.yaml", "--deepspeed", "misspelt.json"],
            ["zero_optimisation: not a setting", "; did you mean zero_optimization?"],
        ),
        (
            ["recipe.yaml", "--deepspeed", "deep.json"],
            ["zero_optimization.stge: sf2 cannot honour it; did you mean stage?"],
        ),
        (["--nproc", "3"], [f"batch_size {BATCH} of the recipe does not divide by 3 ranks"]),
        (
            [
                "recipe.yaml",
                "--deepspeed",
                "accumulate.json",
                "--nproc",
                "2",
                "--set",
                "batch_size=6",
            ],
            ["batch_size 6", "2 ranks x 2 accumulation steps"],
        ),
        (
            ["recipe.yaml", "--deepspeed", "accumulate.json", "--set", "head.negatives=0.5"],
            ["head.negatives is 0.5", "gradient_accumulation_steps is 2"],
        ),
        (["--set", "batch_size=32"], ["batch_size 32 is more than the 30 images of set"]),
        (["--set", "data.shards=none"], ["none"]),
        (["--set", "data.shards=cut"], ["set-000000.tar", "cut short"]),
        (["--set", "data.shards=broken"], ["broken/manifest.json"]),
        (["--out", "run"], ["run holds a run already", "--resume"]),
        (
            ["--out", "thesis"],
            ["run folder thesis: holds chapter1.tex and 1 more and no run", "an empty folder"],
        ),
        (["--resume"], ["--resume: no run in runs/tiny"]),
        (["--out", "file/run"], ["run folder file/run", "file is not a folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_named_before_a_rank_starts(arguments, named, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(start, "launch_ranks", None)
    monkeypatch.setattr("sf2cli.training.world.join_world", None)
    if arguments[0].startswith("--"):
        arguments = ["recipe.yaml", "--deepspeed", "ds.json", *arguments]
    before = files_below(place)
    monkeypatch.setattr(sys, "argv", ["sf2", "train", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("error") == 1
    for words in named:
        assert words in err
    assert files_below(place) == before


@pytest.mark.parametrize("count", ["0", "two"])
def test_a_wrong_number_of_ranks_is_wrong_usage(count, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["sf2", *TRAIN, "--nproc", count])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "--nproc" in capsys.readouterr().err


def test_nproc_under_a_launcher_is_refused(place):
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    (done,) = sf2_ranks([env], *TRAIN, "--nproc", "2", cwd=place)
    assert done.code == 1
    assert done.err.startswith(
        "error: --nproc 2 under a launcher that already made this rank 0 of 2"
    )


def test_a_folder_that_may_not_be_written_to_is_named(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    monkeypatch.setattr(sys, "argv", ["sf2", *TRAIN])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert f"run folder runs/tiny: {place} may not be written to" in capsys.readouterr().err


def test_a_full_disk_at_the_start_leaves_no_folder(place):
    done = sf2(*TRAIN, "--out", "full", cwd=place, max_file_bytes=200)
    assert done.code == 1, done.err
    assert done.err == (
        "error: full: cannot be written (File too large)\n"
        "  Free disk space, or choose another folder with --out.\n"
    )
    assert not (place / "full").exists()


def test_a_full_disk_costs_the_checkpoints_that_do_not_fit_and_nothing_else(place):
    run = place / "filled"
    settings = ("checkpoint.every_steps=1", "checkpoint.keep_last=1", "schedule.steps=2")
    args = [*TRAIN, "--out", run, *(part for value in settings for part in ("--set", value))]
    assert sf2(*args, cwd=place).code == 0
    before = files_below(run / "checkpoints")
    args[args.index("schedule.steps=2")] = "schedule.steps=5"
    done = sf2(*args, "--resume", cwd=place, max_file_bytes=5000)
    assert done.code == 1
    refused = [line for line in done.err.splitlines() if "cannot be written" in line]
    warnings = [f"{run}/checkpoints/step-{step:08d}" for step in (3, 4, 5)]
    assert len(refused) == 4
    assert all(line.endswith("; the ones before it are whole") for line in refused[:-1])
    for line, named in zip(refused, warnings, strict=False):
        assert line.startswith(f"warning: checkpoint {named}: cannot be written (File too large)")
    assert refused[-1].startswith(f"error: checkpoint {warnings[-1]}: cannot be written")
    assert "Free disk space" in done.err.splitlines()[-1]
    assert [line["step"] for line in metrics_of(run)] == [1, 2, 3, 4, 5]
    assert files_below(run / "checkpoints") == before
    assert sf2(*args, "--resume", cwd=place).code == 0


def test_a_first_checkpoint_that_does_not_fit_is_the_only_one(place):
    done = sf2(*TRAIN, "--out", "never", cwd=place, max_file_bytes=5000)
    assert done.code == 1
    warning = next(line for line in done.err.splitlines() if line.startswith("warning: "))
    assert warning.endswith("cannot be written (File too large); there is none before it")


def test_metrics_wait_for_room_on_the_disk(tmp_path, capsys, monkeypatch):
    file = MetricsFile.cut_after(tmp_path / "metrics.jsonl", 0)
    file.log(1, {"loss": 1.0})
    room, write = [12], os.write

    def writes_what_fits(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(descriptor, data[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", writes_what_fits)
    file.log(2, {"loss": 2.0})
    file.log(3, {"loss": 3.0})
    assert capsys.readouterr().err.count("No space left on device") == 1
    with pytest.raises(OSError, match="not written"):
        file.sync()
    room[0] = 1000
    file.log(4, {"loss": 4.0})
    file.sync()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": step, "loss": float(step)} for step in (1, 2, 3, 4)
    ]


def test_a_loss_that_is_no_number_names_the_step(place):
    # ZeRO 2 looks for gradients that are not finite, which DeepSpeed would report. A real process:
    # DeepSpeed's import, which the forked ones have behind them, sets up its logger.
    line = ["train", "recipe.yaml", "--deepspeed", str(CONFIGS / "ds_zero2.json")]
    done = subprocess.run(
        [sys.executable, "-m", "sf2cli.cli", *line, "--out", "wild", "--set", "optimizer.lr=1e30"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    start_line, message, samples, remedy = done.stderr.splitlines()
    assert start_line.startswith("5 identities")
    steps = len(metrics_of(place / "wild"))
    assert message.startswith("error: the loss is ")
    assert f" at step {steps + 1} (learning rate " in message
    assert re.fullmatch(
        r"  rank 0: features or gradients of (id\d/\d(, | and )){5}3 more of the batch", samples
    )
    assert "Lower optimizer.lr" in remedy
    assert "No checkpoint." in remedy


def test_a_gradient_that_is_no_number_names_the_step(place):
    ds = CONFIGS / "ds_zero2.json"
    heavy = ("--deepspeed", ds, "--out", "heavy", "--set", "head.loss_weight=1e37")
    done = sf2("train", "recipe.yaml", *heavy, cwd=place)
    assert (done.code, done.out) == (1, "")
    _, message, samples, _ = done.err.splitlines()
    assert "features are finite on every rank; the batch of rank 0: id" in samples
    assert message.startswith("error: the backbone's gradient is not finite (loss ")
    assert " at step 1 (learning rate 0.01)" in message


def test_weights_that_are_no_numbers_are_neither_saved_nor_a_model(place):
    # Under ZeRO 0 nothing looks at gradients, and no step follows whose loss would tell.
    ds = CONFIGS / "ds_zero0.json"
    values = ("head.loss_weight=1e37", "optimizer.lr=1e6", "schedule.steps=1")
    settings = [part for value in values for part in ("--set", value)]
    done = sf2("train", "recipe.yaml", "--deepspeed", ds, "--out", "last", *settings, cwd=place)
    assert (done.code, done.out) == (1, "")
    assert "checkpoint of step 1: not saved, for" in done.err
    assert not (place / "last" / "model").exists()
    assert not files_below(place / "last" / "checkpoints")


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_run_that_ended_before_its_first_checkpoint_can_be_begun_again(place, resume):
    run, line = place / f"again{len(resume)}", (*TRAIN, "--out", f"again{len(resume)}")
    assert sf2(*line, "--set", "optimizer.lr=1e30", cwd=place).code == 1
    # As a kill leaves them while the first checkpoint is on its way.
    (run / "checkpoints" / ".step-00000004-partial").mkdir(parents=True)
    (run / "tensorboard").mkdir()
    (run / "notes.txt").write_text("lr too high")
    left = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "recipe.yaml", "ds.json")}
    assert left["metrics.jsonl"]
    done = sf2(*line, *resume, cwd=place)
    assert done.code == 0, done.err
    told = f"what a run without a checkpoint left here is now in {run.name}/ended-1"
    assert told in done.err.splitlines()
    assert ("no checkpoint was written yet: starting over" in done.err) == bool(resume)
    assert {name: (run / "ended-1" / name).read_bytes() for name in left} == left
    assert (run / "ended-1" / "tensorboard").is_dir()
    assert (run / "notes.txt").exists()
    assert [line["step"] for line in metrics_of(run)] == [1, 2, 3, 4]
    # Now there is something to lose.
    refused = sf2(*line, cwd=place)
    assert refused.code == 1
    assert f"{run.name} holds a run already" in refused.err


def test_two_runs_do_not_share_a_folder(place):
    (place / "taken").mkdir()
    with locked(place / "taken"):
        done = sf2(*TRAIN, "--out", "taken", cwd=place)
    assert (done.code, done.out) == (1, "")
    assert "run folder taken: another run is writing to it" in done.err
    assert [*files_below(place / "taken")] == [".lock"]


def test_more_loader_processes_than_cores_are_told_in_one_sentence(place):
    # A real process: the forked ones may have no children.
    workers = len(os.sched_getaffinity(0)) + 1
    settings = ("--set", f"data.workers={workers}", "--set", "schedule.steps=1")
    done = subprocess.run(
        [sys.executable, "-m", "sf2cli.cli", *TRAIN, *settings, "--out", "crowded"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = f"warning: data.workers: {workers} processes a rank where there are {workers - 1} cores"
    assert done.stderr.startswith(said)
    assert "This DataLoader" not in done.stderr
