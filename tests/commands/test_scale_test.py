"""The command as a user meets it: the plan, refusals and exit statuses, and one real run."""

import json
import sys

import pytest

from sf2cli import cli
from sf2cli.scaling import measured

MINE = """{"name": "mine", "devices_per_host": 2, "memory_gb": 10, "fp32_tflops": 10,
           "memory_gb_per_s": 500, "intra_gb_per_s": 30}"""


@pytest.fixture
def sf2(monkeypatch, capsys):
    """Run `sf2 scale-test ARGUMENTS`; its exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sf2", "scale-test", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def no_jobs(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a rank would have been started")

    monkeypatch.setattr("sf2cli.scaling.measured.run_ranks", refuse)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either --num-ids"),
        (("--num-ids", "5", "--max"), "give either --num-ids"),
        (("--num-ids", "0"), "whole numbers of 1 or more"),
        (("--num-ids", "-3"), "whole numbers of 1 or more"),
        (("--num-ids", "many"), "found 'many'"),
        (("--num-ids", "100,"), "found ''"),
        (("--num-ids", "10^12"), "found '10^12'"),
        (("--num-ids", "5", "--nproc", "0"), "--nproc"),
        (("--num-ids", "5", "--memory", "lots"), "expected a size such as 23GB"),
        (("--num-ids", "5", "--memory", "0"), "expected a size such as 23GB"),
        (("--num-ids", "5", "--against", "circleloss"), "found 'circleloss'"),
        (("--num-ids", "5", "--against", "partialfc:1"), "partialfc:0.1"),
        (("--num-ids", "5", "--against", "partialfc:2"), "partialfc:0.1"),
        (("--num-ids", "5", "--against", "cosface:0.1"), "partialfc:RATE"),
        (("--num-ids", "5", "--storage", "fp16"), "--storage"),
        (("--num-ids", "5", "--negatives", "0"), "--negatives"),
        (("--num-ids", "5", "--steps", "4"), "--steps"),
        (("--num-ids", "5", "--nproc", "3"), "--batch-size 128 does not divide by --nproc 3"),
        (("--num-ids", "1", "--nproc", "2", "--against", "partialfc"), "wants an identity a rank"),
        (("--num-ids", "5", "--hosts", "2"), "--hosts is of the cluster that --target names"),
        (("--num-ids", "5", "--zero", "2", "--target", "8xh100"), "--backbone"),
        (("--num-ids", "5", "--memory", "1GB", "--target", "8xh100"), "--memory"),
    ],
)
def test_usage(sf2, no_jobs, arguments, said):
    code, out, err = sf2(*arguments)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--num-ids", "5", "--target", "8xh9000"), "8xh100"),
        (("--num-ids", "5", "--target", "none.json"), "none.json: no such file"),
        (("--num-ids", "5", "--target", "3xh100"), "does not divide by the 3 devices"),
        (("--num-ids", "5", "--backbone", "resnext9000"), "resnext9000"),
        (("--num-ids", "5", "--backbone", "sfnet20", "--image-size", "17"), "found 17"),
        (("--max", "--memory", "1MB"), "--max: not one identity fits"),
    ],
)
def test_failures(sf2, no_jobs, arguments, said):
    code, _, err = sf2(*arguments)
    assert code == 1
    assert said in err


def test_a_target_file_with_a_missing_field(sf2, no_jobs, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(MINE)
    code, _, err = sf2("--num-ids", "5", "--target", str(path))
    assert code == 1
    assert "inter_gb_per_s is missing" in err


def test_what_does_not_fit_is_refused_after_the_plan(sf2, no_jobs):
    code, out, err = sf2("--num-ids", "1M,2M", "--memory", "5GB")
    assert code == 1
    assert "plan for 2,000,000 identities" in out
    assert "--num-ids 2000000 with sphereface2 fp32 needs" in err
    assert "It fits with --storage bf16 or with --storage fp32 --no-momentum" in err


def test_nothing_makes_it_fit(sf2, no_jobs):
    code, out, err = sf2("--num-ids", "1000000000000", "--memory", "23GB")
    assert code == 1
    assert "1,000,000,000,000" in out
    assert "No option makes it fit: at most" in err
    assert "--storage bf16 --no-momentum" in err


def test_a_plan_for_a_cluster(sf2, no_jobs, tmp_path):
    arguments = ("--num-ids", "10M", "--target", "8xh100", "--hosts", "4", "--storage", "bf16")
    code, out, _ = sf2(*arguments)
    assert code == 0
    for said in ("4 hosts of 8 x h100", "10M bf16", "samples/s", "989", "3350 GB/s", "ring"):
        assert said in out
    code, out, _ = sf2(*arguments, "--backbone", "iresnet50", "--zero", "1", "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["settings"]["nproc"] == 32
    assert plan["speed"][0]["step"]["backbone"] > 0
    assert plan["plan"][0]["rank_bytes"]["weights"] == 312_500 * 1024
    assert any("ZeRO stage 1" in line for line in plan["assumptions"])
    code, _, _ = sf2(*arguments, "--out", str(tmp_path))
    assert code == 0
    assert json.loads((tmp_path / "target.json").read_text())["hosts"] == 4


def test_a_cluster_too_small(sf2, no_jobs):
    code, out, err = sf2("--num-ids", "200M", "--target", "8xv100-32", "--storage", "fp32")
    assert code == 1
    assert "step of SphereFace2, planned" in out
    assert "It fits with --storage bf16 --no-momentum" in err


def test_measured_reported_and_resumed(sf2, tmp_path, monkeypatch):
    out_folder = tmp_path / "report"
    arguments = (
        *("--num-ids", "500,2000", "--nproc", "2", "--batch-size", "16", "--embedding-size", "32"),
        *("--against", "partialfc:0.5", "--out", str(out_folder), "--json"),
    )
    # Cut off before the last of four points.
    run_ranks, jobs = measured.run_ranks, []

    def count(point, on_tick):
        jobs.append(point.name)
        if len(jobs) == 4:
            raise KeyboardInterrupt
        return run_ranks(point, on_tick)

    monkeypatch.setattr(measured, "run_ranks", count)
    code, out, err = sf2(*arguments)
    assert code == 130
    assert "plan for 2,000 identities" in err
    assert not (out_folder / "scale.json").exists()
    assert len(list((out_folder / "points").iterdir())) == 3
    jobs.clear()
    jobs.extend(["x"] * 4)
    code, out, err = sf2(*arguments)
    assert code == 0
    assert jobs[4:] == ["partialfc:0.5 fp32, 2,000 identities"]
    assert err.count("measured before") == 3
    report = json.loads(out)
    assert report == json.loads((out_folder / "scale.json").read_text())
    assert [(row["num_ids"], row["head"]) for row in report["points"]] == [
        (500, "sphereface2 fp32"),
        (500, "partialfc:0.5 fp32"),
        (2000, "sphereface2 fp32"),
        (2000, "partialfc:0.5 fp32"),
    ]
    assert [ratio["num_ids"] for ratio in report["comparison"]] == [500, 2000]
    for row in report["points"]:
        assert row["step_min_s"] <= row["step_s"] <= row["step_max_s"]
        assert row["beyond_bytes"] < 64 * 2**20
        assert (row["model_s"] is None) == row["head"].startswith("partialfc")
    assert {"format", "settings", "machine", "plan", "definitions"} < report.keys()
    assert sorted(path.name for path in out_folder.iterdir()) == [
        "points",
        "scale.csv",
        "scale.json",
        "scale.png",
    ]


def test_the_most_that_train(sf2, tmp_path):
    code, out, _ = sf2(
        *("--max", "--memory", "400MB", "--batch-size", "4", "--embedding-size", "512", "--json")
    )
    assert code == 0
    (row,) = json.loads(out)["points"]
    assert row["num_ids"] > 1000
    assert row["all_peaks_bytes"] <= 400 * 10**6
