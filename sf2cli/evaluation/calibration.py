"""What the loss itself says of a similarity: the probability that two images are one identity.

SphereFace2 trains K binary classifiers with the logit u(s) = r g(s) + b (+- r m in training), s
being the cosine of an image and a class's row, g(s) = 2 ((s + 1) / 2)^t - 1. Without the margin
its minimiser obeys

    sigmoid(u) = lambda p / (lambda p + (1 - lambda) (1 - p)),

where p is the probability that the image belongs to the row among training's pairs of an image
and a row, of which one in K is positive. So u - ln(lambda / (1 - lambda)) is the log-odds at a
prior of 1 / K, and with another prior q

    logit P(same | s) = u(s) - ln(lambda / (1 - lambda)) + ln(K - 1) + ln(q / (1 - q)).

Two readings come of it. `trained` takes sigmoid(u) as it is, whose threshold u = 0 is the
classifiers' own decision; `prior` is the formula above. Two assumptions carry both from rows to
pairs of images: the second image's embedding stands where its identity's row would (as if the
identity were enrolled with that one image), and the margin, which for |u| < r m makes the loss
indifferent, leaves the logit meaningful there. Both are assumptions: the calibration error says
how well they hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sf2cli.evaluation.verification import SortedScores
from sf2cli.heads.sphereface2 import g

BINS = 15
_HEAD = "sphereface2"


@dataclass(frozen=True)
class Reading:
    """A similarity s read as P(same) = sigmoid(r g(s) + bias)."""

    name: str
    r: float
    t: float
    bias: float

    def probability(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """P(same) of each cosine, any shape."""
        logits = self.r * g(torch.from_numpy(np.asarray(cosines, np.float64)), self.t) + self.bias
        return torch.sigmoid(logits).numpy()

    @property
    def threshold(self) -> float | None:
        """The cosine at which P(same) is 1/2; None where no cosine gives that."""
        similarity = -self.bias / self.r
        if not -1 <= similarity <= 1:
            return None
        return float(2 * ((similarity + 1) / 2) ** (1 / self.t) - 1)


@dataclass(frozen=True)
class Bin:
    """Pairs of similar probability: their number, mean probability and share of genuine ones."""

    pairs: int
    probability: float
    genuine: float


@dataclass(frozen=True)
class Calibration:
    """How true a reading's probabilities are on a list of pairs, none of which chose anything.

    Args:
        reading: `trained` or `prior`.
        threshold: the cosine at P(same) = 1/2.
        accuracy: of that threshold; of calling all pairs alike where there is none.
        ece: expected calibration error over bins of equally many pairs.
        brier: mean squared difference of probability and truth.
        bins: by rising probability.
    """

    reading: str
    threshold: float | None
    accuracy: float
    ece: float
    brier: float
    bins: tuple[Bin, ...]


def readings(head: Mapping[str, Any], prior: float) -> list[Reading]:
    """The two readings of a SphereFace2 head's card; none for a softmax or an unknown head.

    Args:
        head: `ModelCard.head`: loss, lambda, r, t, bias and num_classes.
        prior: the share of genuine pairs to assume, in (0, 1).
    """
    try:
        if head["loss"] != _HEAD:
            return []
        r, t, bias = float(head["r"]), float(head["t"]), float(head["bias"])
        lam, classes = float(head["lambda"]), int(head["num_classes"])
    except KeyError:
        return []
    found = [Reading("trained", r, t, bias)]
    if classes > 1:
        shift = math.log(classes - 1) - math.log(lam / (1 - lam)) + math.log(prior / (1 - prior))
        found.append(Reading("prior", r, t, bias + shift))
    return found


def calibrate(scores: SortedScores, reading: Reading, bins: int = BINS) -> Calibration:
    """Compare a reading's probabilities with the truth.

    ECE is the mean over `bins` bins of |mean probability - share of genuine pairs|, weighted by
    their pairs; a bin is a run of the pairs by probability, all as large as can be alike, and pairs
    of equal similarity stay together (in the bin that the last of them would be in).
    """
    cosines = np.concatenate([scores.genuine, scores.impostor])
    truth = np.zeros(len(cosines))
    truth[: len(scores.genuine)] = 1
    order = np.argsort(cosines, kind="stable")
    cosines, truth = cosines[order], truth[order]
    probabilities = reading.probability(cosines)
    cuts = np.linspace(0, len(cosines), bins + 1).round().astype(np.int64)[1:-1]
    starts = np.unique(np.append(0, np.searchsorted(cosines, cosines[cuts[cuts < len(cosines)]])))
    sizes = np.diff(np.append(starts, len(cosines)))
    means = np.add.reduceat(probabilities, starts) / sizes
    shares = np.add.reduceat(truth, starts) / sizes
    return Calibration(
        reading=reading.name,
        threshold=reading.threshold,
        accuracy=float(((probabilities >= 0.5) == truth).mean()),
        ece=float(np.abs(means - shares) @ sizes / len(cosines)),
        brier=float(np.square(probabilities - truth).mean()),
        bins=tuple(
            Bin(int(n), float(p), float(share))
            for n, p, share in zip(sizes, means, shares, strict=True)
        ),
    )


def same_probability(cosine: float, head: Mapping[str, Any]) -> float | None:
    """The chance that two images of this similarity are one person, as the loss was trained.

    Args:
        cosine: of their embeddings.
        head: `ModelCard.head`.

    Returns:
        The `trained` reading's P(same); None for a softmax or an unknown head, which has none.
    """
    found = readings(head, prior=0.5)
    return float(found[0].probability(np.array(cosine))) if found else None
