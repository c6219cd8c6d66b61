"""An ONNX file as an embedder, run by onnxruntime.

The graph says how large its input is, how many colours it has and where they stand (NCHW or
NHWC); it does not say how pixels become its input, so that is an option.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.backbones.saved import Preprocessing
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.embed import NetworkEmbedder
from sf2cli.evaluation.embedder import EmbedderCard, Network
from sf2cli.evaluation.input_options import InputOptions

_DEFAULT_SIZE = 112
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def open_onnx(path: Path, said: InputOptions) -> NetworkEmbedder:
    """The network of an ONNX file, on the CPU.

    Raises:
        Sf2Error: onnxruntime is not installed, the file is not a network, its input is no square
            image, its output no rows, or an option contradicts it.
    """
    try:
        import onnxruntime
    except ImportError:
        raise Sf2Error(
            f"model {path}: onnxruntime is not installed", "Run pip install 'sf2[onnx]'."
        ) from None
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise Sf2Error(f"model {path}: cannot be read ({failure.strerror})") from None
    options = onnxruntime.SessionOptions()
    # Its warnings of graphs that could be made faster are no concern of the user's.
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as failure:
        reason = str(failure).splitlines()[0]
        raise Sf2Error(f"{path}: onnxruntime does not take it ({reason:.160})") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES:
        found = ", ".join(f"{entry.name} {entry.type}" for entry in inputs)
        raise Sf2Error(f"{path}: its inputs are {found}, expected one of floating point")
    colours_last, channels, size = _image_shape(path, inputs[0].shape, said)
    preprocessing = said.preprocessing(Preprocessing.for_channels(channels))
    if preprocessing.channels != channels:
        raise Sf2Error(
            f"--colour {preprocessing.colour}: {path} takes images of {channels} colour(s)",
            f"Say --colour {'L' if channels == 1 else 'RGB or BGR'}, or leave it out.",
        )
    output = session.get_outputs()[0]
    length = output.shape[-1]
    card = EmbedderCard(
        place=path,
        kind="ONNX",
        network=f"the graph {path.name}",
        embedding_size=length if isinstance(length, int) else 0,
        image_size=size,
        preprocessing=preprocessing,
        mirrored=said.mirrored is not False,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return NetworkEmbedder(card, _network(path, session, card, colours_last), "cpu")


def _image_shape(path: Path, shape: list[Any], said: InputOptions) -> tuple[bool, int, int]:
    """Whether the colours come last, how many there are, and the size of the input."""
    known = [length if isinstance(length, int) and length > 0 else None for length in shape]
    if len(known) != 4 or not {known[1], known[3]} & {1, 3}:
        raise Sf2Error(
            f"{path}: its input has the shape {shape}, expected [batch, 1 or 3, size, size] or"
            " [batch, size, size, 1 or 3]"
        )
    colours_last = known[1] not in (1, 3)
    channels = known[3] if colours_last else known[1]
    sides = {known[1], known[2]} if colours_last else {known[2], known[3]}
    fixed = sides - {None}
    if len(fixed) > 1:
        raise Sf2Error(f"{path}: its input has the shape {shape}, and is not square")
    size = fixed.pop() if fixed else said.image_size or _DEFAULT_SIZE
    if said.image_size not in (None, size):
        raise Sf2Error(
            f"--image-size {said.image_size}: {path} takes images of {size} x {size}",
            "Leave --image-size out.",
        )
    assert channels is not None
    assert size is not None
    return colours_last, channels, size


def _network(path: Path, session: Any, card: EmbedderCard, colours_last: bool) -> Network:
    entry = session.get_inputs()[0]
    # Many exports have a batch of one built in.
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) and entry.shape[0] > 0 else None
    made, dtype = card.preprocessing, _TYPES[entry.type]

    def forward(images: NDArray[Any]) -> NDArray[np.float32]:
        step = fixed or len(images)
        rows = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            filled = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            out = session.run(None, {entry.name: np.ascontiguousarray(filled)})[0]
            if out.shape[0] != step or out.size == 0:
                raise Sf2Error(
                    f"{path}: its output has the shape {list(out.shape)} for {step} image(s),"
                    " expected a row an image"
                )
            rows.append(out.reshape(step, -1)[: len(part)])
        return np.concatenate(rows).astype(np.float32)

    def network(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = batch[:, ::-1] if made.colour == "BGR" else batch
        floats = ((images.astype(np.float32) - made.mean) / made.scale).astype(dtype)
        views = [floats, floats[..., ::-1]] if card.mirrored else [floats]
        if colours_last:
            views = [view.transpose(0, 2, 3, 1) for view in views]
        found: NDArray[np.float32] = np.sum([forward(view) for view in views], axis=0)
        return found

    return network
