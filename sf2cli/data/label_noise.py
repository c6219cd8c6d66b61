"""Wrong labels on purpose, to see what a loss makes of them.

As the SphereFace2 authors' code has it: with probability p an image's label is drawn anew from all
identities, its own among them; images and identities stay as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of the stream of random bits; `order` and `augment` have the other numbers.
_LABELS = 6


def noisy_labels(
    labels: NDArray[np.int64], identities: int, share: float, seed: int
) -> NDArray[np.int64]:
    """The labels [n] of a whole set with noise, the same whenever they are asked for.

    Args:
        labels: class ids [n].
        identities: how many there are.
        share: p, in [0, 1).
        seed: of the draw.
    """
    words = np.random.PCG64([seed, _LABELS]).random_raw(2 * len(labels)).reshape(2, -1)
    drawn = (words[1] % identities).astype(np.int64)
    return np.where(words[0] < share * 2.0**64, drawn, labels)
