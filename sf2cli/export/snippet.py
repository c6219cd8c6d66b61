"""The script that goes with an exported model: onnxruntime, NumPy and Pillow alone."""

from __future__ import annotations

from sf2cli.backbones.saved import Preprocessing
from sf2cli.evaluation.calibration import Reading

_START = '''"""Compare two face images: python embed.py a.png b.png

Needs onnxruntime, numpy and Pillow. The images must be cropped as those the model was trained on.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIZE, MODE, MEAN, SCALE = {size}, "{mode}", {mean!r}, {scale!r}

session = onnxruntime.InferenceSession(
    str(Path(__file__).with_name("model.onnx")), providers=["CPUExecutionProvider"]
)


def embed(path):
    """The embedding of an image file, of unit length: {embedding}."""
    image = Image.open(path).convert(MODE).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(SIZE, SIZE, -1){order}
    x = ((pixels - MEAN) / SCALE).transpose(2, 0, 1)
    views = np.ascontiguousarray(np.stack([{views}]))
    features = session.run(None, {{"images": views}})[0].sum(axis=0)
    return features / np.linalg.norm(features)
'''

_PROBABILITY = '''

def same_probability(similarity):
    """The chance that two images are one person, by the r, t and b the loss was trained with."""
    logit = {r!r} * (2 * ((similarity + 1) / 2) ** {t!r} - 1) + {bias!r}
    return 1 / (1 + np.exp(-logit))
'''

_END = """

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    similarity = float(embed(sys.argv[1]) @ embed(sys.argv[2]))
    print(f"similarity {similarity:.4f}")
"""


EMBEDDINGS = {True: "f(x) + f(x mirrored left to right)", False: "f(x)"}


def snippet(
    image_size: int, preprocessing: Preprocessing, reading: Reading | None, *, mirrored: bool
) -> str:
    """The text of embed.py.

    Args:
        image_size: of the model's input.
        preprocessing: of the model.
        reading: the trained one; None for a model without a probability.
        mirrored: whether an embedding adds that of the mirrored image.
    """
    start = _START.format(
        size=image_size,
        mode="L" if preprocessing.colour == "L" else "RGB",
        mean=preprocessing.mean,
        scale=preprocessing.scale,
        embedding=EMBEDDINGS[mirrored],
        views="x, x[:, :, ::-1]" if mirrored else "x",
        order="[:, :, ::-1]" if preprocessing.colour == "BGR" else "",
    )
    if reading is None:
        return start + _END
    probability = _PROBABILITY.format(r=reading.r, t=reading.t, bias=reading.bias)
    said = '    print(f"same person with probability {same_probability(similarity):.4f}")\n'
    return start + probability + _END + said
