"""`sf2 embed`, `sf2 verify` and `sf2 export` as a user types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import save_model
from sf2cli.cli import main
from tests.evaluation.small import write_model, write_photos, write_set

CARD = {"name": "sfnet4_slim_bn", "embedding_size": 8, "image_size": 16, "channels": 1}
HEAD = {
    "loss": "sphereface2",
    "lambda": 0.7,
    "r": 30.0,
    "t": 3.0,
    "m": 0.3,
    "bias": 2.0,
    "num_classes": 30,
}


def write_run(folder: Path) -> Path:
    """A model that tells the photos of `small` apart, as its head says."""
    torch.manual_seed(0)
    backbone = build_backbone(**CARD)  # type: ignore[arg-type]
    save_model(folder / "model", backbone.state_dict(), backbone=CARD, head=HEAD, training={})
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_set(folder / "set", write_photos(folder / "photos", identities=3, images=4))
    write_run(folder / "run")
    write_model(folder / "softmax")
    for name in ("features.npz", "graph.onnx"):
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def sf2(place, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(place)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sf2", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("source", ["set", "photos"])
def test_embeddings_are_written_with_their_keys_and_evaluated_again(sf2, place, source) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra sf2[parquet] is missing")
    out = place / f"embedded-{source}"
    code, printed, err = sf2("embed", "run", source, out)
    assert code == 0, err
    assert "12 embeddings of 8 dimensions" in printed
    rows = np.load(out / "embeddings.npy")
    keys = (out / "keys.txt").read_text().splitlines()
    assert keys == sorted(f"id{k}/id{k}_{i:04d}.png" for k in range(3) for i in range(1, 5))
    assert (rows.shape, rows.dtype) == ((12, 8), np.float32)
    table = parquet.read_table(out / "embeddings.parquet").to_pydict()
    assert table["key"] == keys
    assert np.array_equal(np.array(table["embedding"], np.float32), rows)
    about = json.loads((out / "embed.json").read_text())
    assert about["model"]["network"] == "sfnet4_slim_bn"
    code, _, err = sf2("embed", "run", source, out)
    assert code == 1
    assert f"OUT {out}: embeddings are there already (embeddings.npy)" in err.replace("\n", "")
    assert sf2("embed", "run", source, out, "--overwrite")[0] == 0

    for model in ("run", out):
        code, _, err = sf2("eval", model, "--set", "set", "--out", out / f"report-{model == out}")
        assert code == 0, err
    own, found = (
        json.loads((out / f"report-{again}" / "report.json").read_text())["sets"][0]["results"]
        for again in (False, True)
    )
    assert found["model"]["eer"] == own["model"]["eer"]
    # embed.json knows the size and colours that the images are to have.
    assert found["raw pixels"] == own["raw pixels"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("embed run none out", "SOURCE none: no such folder"),
        ("embed run run/model out", "SOURCE run/model: no image in it"),
        ("embed none photos out", "model none: no such folder"),
        ("verify photos/id0/id0_0001.png none.png --model run", "none.png: cannot be read"),
        ("verify run/model/model.json photos/id0/id0_0001.png --model run", "not a JPEG, PNG"),
        ("export none", "model none: no such folder"),
        ("export features.npz", "features.npz: holds features, not a network"),
        ("export graph.onnx", "graph.onnx: is an ONNX file already"),
        ("export photos/id0/id0_0001.png", "id0_0001.png"),
    ],
)
def test_mistakes_are_one_message(sf2, place, command, message) -> None:
    code, out, err = sf2(*command.split())
    assert code == 1
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert not (place / "out").exists()


def answer(sf2, *args: object) -> dict[str, object]:  # type: ignore[no-untyped-def]
    code, out, err = sf2("verify", *args, "--json")
    assert code == 0, err
    found: dict[str, object] = json.loads(out)
    return found


def test_the_probability_is_that_of_the_trained_r_and_b(sf2) -> None:
    photos = ("photos/id0/id0_0001.png", "photos/id1/id1_0001.png")
    found = answer(sf2, *photos, "--model", "run")
    s = found["similarity"]
    assert isinstance(s, float)
    logit = 30 * (2 * ((s + 1) / 2) ** 3 - 1) + 2
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-9)
    assert found["same"] == (logit >= 0)
    same = answer(sf2, photos[0], photos[0], "--model", "run")
    assert same["same"] is True
    assert same["similarity"] == pytest.approx(1, abs=1e-6)
    code, out, _ = sf2("verify", photos[0], photos[0], "--model", "run")
    assert code == 0
    assert out.startswith("same person\nprobability that they are the same: over 99.9%\n")


def test_a_model_without_a_trained_threshold_asks_for_one(sf2) -> None:
    photos = ("photos/id0/id0_0001.png", "photos/id0/id0_0002.png")
    found = answer(sf2, *photos, "--model", "softmax")
    assert (found["same"], found["probability"]) == (None, None)
    assert answer(sf2, *photos, "--model", "softmax", "--threshold", "-1")["same"] is True
    assert "give --threshold" in sf2("verify", *photos, "--model", "softmax")[1]


def test_export_agrees_with_torch_and_its_snippet_runs(sf2, place, tmp_path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra sf2[onnx] is not installed")
    code, printed, err = sf2("export", "run", "--out", tmp_path / "exported")
    assert code == 0, err
    assert "ONNX within" in printed
    assert code == 0
    names = ["README.md", "embed.py", "export.json", "model.onnx", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == names
    assert sf2("export", "run", "--out", tmp_path / "exported")[0] == 1

    saved = load_file(place / "run" / "model" / "model.safetensors")
    plain = load_file(tmp_path / "exported" / "model.safetensors")
    assert plain.keys() == saved.keys()
    assert all(torch.equal(plain[name], saved[name]) for name in saved)
    assert "sfnet4_slim_bn, 8 dimensions" in (tmp_path / "exported" / "README.md").read_text()

    # The script needs nothing of sf2: it runs from elsewhere, by what onnxruntime itself needs.
    moved = shutil.copytree(tmp_path / "exported", tmp_path / "moved")
    photos = [place / "photos" / f"id{k}" / f"id{k}_0001.png" for k in (0, 1)]
    done = subprocess.run(
        [sys.executable, "embed.py", *map(str, photos)],
        cwd=moved,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    similarity, probability = (float(word) for word in re.findall(r"-?\d\.\d{4}", done.stdout))
    own = answer(sf2, *photos, "--model", "run")
    assert similarity == pytest.approx(own["similarity"], abs=2e-4)
    assert probability == pytest.approx(own["probability"], abs=2e-3)

    report = ("--set", "set", "--json", "--out")
    by_onnx = sf2("eval", moved / "model.onnx", *report, tmp_path / "onnx")
    by_torch = sf2("eval", "run", *report, tmp_path / "torch")
    by_weights = sf2("eval", moved / "model.safetensors", *report, tmp_path / "weights")
    found = [json.loads(out)["sets"][0]["results"]["model"] for _, out, _ in (by_onnx, by_torch)]
    assert found[0]["eer"] == pytest.approx(found[1]["eer"], abs=1e-6)
    assert json.loads(by_weights[1])["sets"][0]["results"]["model"]["eer"] == found[1]["eer"]
