"""A backbone as an ONNX file that gives the numbers that torch gives."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sf2cli.errors import Sf2Error

INPUT, OUTPUT = "images", "features"
_OPSET = 17
# Of the largest feature; fp32 sums in another order differ by a few 1e-6 of it.
_TOLERANCE = 1e-3
_CHECKED = 3


def to_onnx(module: nn.Module, image_size: int, channels: int) -> tuple[bytes, float]:
    """Write the graph and run it beside torch on random images.

    Args:
        module: in evaluation mode, on the CPU.
        image_size, channels: of its input, float [batch, channels, image_size, image_size].

    Returns:
        The file's content, for any batch size, and the largest difference of a feature over the
        largest feature.

    Raises:
        Sf2Error: onnx or onnxruntime is not installed, or the two do not agree.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        raise Sf2Error(
            "export: onnx and onnxruntime are not installed", "Run pip install 'sf2[onnx]'."
        ) from None
    generator = torch.Generator().manual_seed(0)
    shape = (_CHECKED, channels, image_size, image_size)
    images = torch.rand(shape, generator=generator) * 2 - 1
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        torch.inference_mode(),
    ):
        # The exporter that replaces this one needs a package more, and gives the same graph.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (images[:2],),
            path,
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=_OPSET,
        )
        graph = path.read_bytes()
        expected = module(images).numpy()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(None, {INPUT: images.numpy()})[0]
    apart = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not apart <= _TOLERANCE:
        raise Sf2Error(
            f"export: the ONNX graph differs from torch by {apart:.2g} of the largest feature",
            "Report this with the model's card: the graph is of no use.",
        )
    return graph, apart
