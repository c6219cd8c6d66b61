"""`sf2 eval` as a user types it: results, and every mistake in one message."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sf2cli.cli import main
from tests.evaluation.small import (
    bin_images,
    write_bin,
    write_model,
    write_photos,
    write_set,
)

PAIRS = [True, False] * 10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, a set, a .bin and lists, sound and unsound."""
    folder = tmp_path_factory.mktemp("eval")
    photos = write_photos(folder / "photos", identities=3, images=4)
    write_set(folder / "set", photos)
    write_model(folder / "run" / "model")
    write_bin(folder / "good.bin", PAIRS)
    lines = [
        f"id0/id0_000{1 + k % 3}.png id{0 if same else 1}/id{0 if same else 1}_0004.png {int(same)}"
        for k, same in enumerate(PAIRS)
    ]
    (folder / "list.txt").write_text("\r\n".join(lines))
    (folder / "pairs.txt").write_text("10\t1\n" + "id0\t1\t2\nid0\t1\tid1\t2\n" * 10)
    unsound(folder, lines)
    return folder


def unsound(folder: Path, lines: list[str]) -> None:
    write_set(folder / "one-identity", write_photos(folder / "photos1", 1, 3))
    write_set(folder / "one-image", write_photos(folder / "photos2", 1, 1))
    write_set(folder / "cut-set", folder / "photos")
    tar = next((folder / "cut-set").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1000])
    (folder / "unfinished").mkdir()
    write_model(folder / "damaged")
    weights = folder / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    images = bin_images(PAIRS)
    (folder / "text.bin").write_text("no pickle\n")
    (folder / "counts.bin").write_bytes(pickle.dumps((images[:-1], PAIRS)))
    (folder / "hostile.bin").write_bytes(pickle.dumps((Hostile(folder / "ran"), PAIRS)))
    (folder / "corrupt.bin").write_bytes(
        pickle.dumps(([*images[:7], images[7][:60], *images[8:]], PAIRS))
    )
    (folder / "genuine.bin").write_bytes(pickle.dumps((bin_images([True] * 20), [True] * 20)))
    (folder / "missing.txt").write_text("\n".join([*lines, "id0/id0_0001.png id7/none.png 0"]))
    (folder / "odd.txt").write_text("\n".join([*lines, "id0/id0_0001.png"]))
    (folder / "empty.txt").write_text("\n")
    (folder / "genuine.txt").write_text("\n".join(lines[::2]))
    (folder / "file").write_text("")


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def sf2(place, monkeypatch, capsys):
    """Runs `sf2 eval` in `place`; exit status, standard output, standard error."""
    monkeypatch.chdir(place)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["sf2", "eval", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def test_one_command_takes_every_protocol(sf2, place, tmp_path):
    code, out, err = sf2(
        *("run", "--set", "set", "--bin", "good.bin", "--out", str(tmp_path / "r")),
        *("--pairs", "list.txt", "--pairs", "pairs.txt", "--images", "photos"),
    )
    assert code == 0, err
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert [(entry["name"], entry["protocol"]) for entry in report["sets"]] == [
        ("set", "all pairs"),
        ("good", "InsightFace .bin"),
        ("list", "pairs list"),
        ("pairs", "LFW pairs.txt"),
    ]
    assert "good: InsightFace .bin, 40 images, 10 genuine and 10 impostor pairs" in out
    assert out.count("raw pixels") == 4
    assert "TAR at FAR ≤ 1% needs at least 100 impostor pairs; there are 10." in out
    assert f"report: {tmp_path / 'r' / 'report.html'}" in err.replace("\n", "")


def test_json_is_the_written_report(sf2, tmp_path):
    code, out, _ = sf2("run", "--bin", "good.bin", "--json", "--out", str(tmp_path))
    assert code == 0
    report = json.loads(out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert set(report["sets"][0]["results"]) == {"model", "raw pixels"}
    assert report["made_by"]["command"] == f"sf2 eval run --bin good.bin --json --out {tmp_path}"


@pytest.mark.parametrize(
    ("model", "report"), [("run", "run/eval"), ("run/model", "run/model-eval")]
)
def test_default_report_folder_leaves_the_model_folder_alone(sf2, place, model, report):
    code, _, err = sf2(model, "--bin", "good.bin")
    assert code == 0, err
    code, _, err = sf2(model, "--bin", "good.bin")
    assert code == 1
    assert "a report is there already (report.json)" in err
    code, _, err = sf2(model, "--bin", "good.bin", "--overwrite")
    assert code == 0, err
    assert "from the cache" in err
    assert {entry.name for entry in (place / report).iterdir()} == {
        "report.json",
        "report.html",
        "scores.npz",
    }
    assert {entry.name for entry in (place / "run" / "model").iterdir()} == {
        "model.json",
        "model.safetensors",
    }


def test_each_list_may_have_its_own_images(sf2, place, tmp_path):
    (place / "list2.txt").write_text(
        (place / "list.txt")
        .read_text()
        .replace("id0/", "photos/id0/")
        .replace("id1/", "photos/id1/")
    )
    code, out, err = sf2(
        *("run", "--pairs", "list.txt", "--images", "photos"),
        *("--pairs", "list2.txt", "--images", ".", "--json", "--out", str(tmp_path)),
    )
    assert code == 0, err
    first, second = json.loads(out)["sets"]
    assert first["results"] == second["results"]


FAILURES = {
    "no such model": ("none --set set", "model none: no such folder"),
    "no model in the folder": ("unfinished --set set", "neither model.json nor model/model.json"),
    "damaged weights": ("damaged --set set", "damaged/model.safetensors: damaged"),
    "no such set": ("run --set none", "packed set none: no such folder"),
    "no set in the folder": ("run --set unfinished", "packed set unfinished: no manifest.json"),
    "set cut short": ("run --set cut-set", "it was cut short"),
    "one identity": ("run --set one-identity", "one-identity: none of the 3 pairs is impostor"),
    "one image": ("run --set one-image", "one-image: no pairs to compare (1 image(s))"),
    "no such .bin": ("run --bin none.bin", "none.bin: cannot be read (No such file"),
    "no pickle": ("run --bin text.bin", "text.bin: not a pickle of image bytes"),
    "hostile pickle": ("run --bin hostile.bin", "hostile.bin: refused: the pickle asks for"),
    "counts": ("run --bin counts.bin", "counts.bin: 39 images for 20 pairs, expected 40"),
    "corrupt image": ("run --bin corrupt.bin", "corrupt.bin: image 7 (pair 3): "),
    "genuine .bin": ("run --bin genuine.bin", "genuine.bin: none of the 20 pairs is impostor"),
    "no such list": ("run --pairs none.txt --images photos", "none.txt: cannot be read"),
    "missing image": (
        "run --pairs missing.txt --images photos",
        "missing.txt: 1 of its 6 images is missing in photos: id7/none.png",
    ),
    "odd columns": ("run --pairs odd.txt --images photos", "odd.txt, line 21: found 1 columns"),
    "no pairs": ("run --pairs empty.txt --images photos", "empty.txt: no pairs in it"),
    "genuine list": (
        "run --pairs genuine.txt --images photos",
        "genuine.txt: none of the 10 pairs is impostor",
    ),
    "no such images": ("run --pairs list.txt --images none", "--images none: no such folder"),
    "report in a file": ("run --set set --out file", "--out file: file is not a folder"),
    "good and bad": ("run --set set --bin good.bin --bin text.bin", "text.bin: not a pickle"),
}
USAGE = {
    "no protocol": ("run", "give --set, --bin or --pairs"),
    "no model": ("--set set", "Missing argument 'MODEL'"),
    "a set twice": ("run --set set --set ./set", "'--set': set is named twice; name it once."),
    "a list twice": (
        "run --pairs list.txt --pairs list.txt --images photos",
        "--pairs: a list is named twice with the same images",
    ),
    "list without images": ("run --pairs list.txt", "--pairs LIST and --images ROOT need"),
    "images without list": ("run --set set --images photos", "--pairs LIST and --images ROOT"),
    "images for some": (
        "run --pairs list.txt --pairs pairs.txt --pairs odd.txt --images . --images photos",
        "--images: found 2 for 3 --pairs",
    ),
}


@pytest.mark.parametrize(
    ("status", "command", "message"),
    [
        pytest.param(status, *case, id=name)
        for status, cases in ((1, FAILURES), (2, USAGE))
        for name, case in cases.items()
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(sf2, place, status, command, message):
    before = sorted(place.rglob("*"))
    code, out, err = sf2(*command.split(), *(() if "--out" in command else ("--out", "new/report")))
    assert code == status
    assert message in " ".join(err.split())
    assert err.lower().count("error:") == 1
    assert "Traceback" not in err
    assert out == ""
    assert sorted(place.rglob("*")) == before
    assert not (place / "ran").exists()


def test_help_has_examples(sf2):
    code, out, _ = sf2("--help")
    assert code == 0
    assert "sf2 eval runs/att --set shards/att-test" in out
    assert "--pairs pairs.txt --images lfw/" in out


def test_imports_nothing_heavy_that_it_does_not_need(place, tmp_path):
    """Help comes without torch; an evaluation without training's libraries and torch's compiler."""
    script = """
import sys
from sf2cli.cli import main
sys.argv = ["sf2", "eval", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = "torch", "deepspeed", "webdataset", "matplotlib.pyplot", "torch._dynamo", "sympy"
print("IMPORTED", *(name for name in heavy if name in sys.modules))
"""

    def imported(*args):
        done = subprocess.run(
            [sys.executable, "-c", script, *args],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.split("IMPORTED")[1].split()

    assert imported("--help") == []
    assert imported("run", "--set", "set", "--out", str(tmp_path)) == ["torch"]
