"""The best and the worst pairs of a set, as pictures."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.images import encode_png
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.evaluate import MODEL, Result
from sf2cli.evaluation.scoring import Scores

_SHOWN = 6


@dataclass(frozen=True)
class Panel:
    """Numbers of pairs of one kind, the most telling first."""

    title: str
    pairs: list[int]


def panels(result: Result) -> list[Panel]:
    """Six pairs from either end of each kind, by the model's similarity."""
    scored, same = result.scored[MODEL], result.pairs.issame
    rising, falling = scored.scores, -scored.scores
    genuine, impostor = scored.split.genuine, scored.split.impostor
    return [
        Panel(
            "Worst genuine pairs: one identity, least similar",
            _lowest(rising, same, genuine[:_SHOWN][-1]),
        ),
        Panel(
            "Worst impostor pairs: two identities, most similar",
            _lowest(falling, ~same, -impostor[-_SHOWN:][0]),
        ),
        Panel(
            "Best genuine pairs: one identity, most similar",
            _lowest(falling, same, -genuine[-_SHOWN:][0]),
        ),
        Panel(
            "Best impostor pairs: two identities, least similar",
            _lowest(rising, ~same, impostor[:_SHOWN][-1]),
        ),
    ]


def pictures(result: Result, card: EmbedderCard) -> str:
    """The panels as HTML; the images as the model gets them, in size and colour.

    Raises:
        Sf2Error: an image can no longer be read.
    """
    return "".join(
        f'<h3>{html.escape(panel.title)}</h3><div class="pairs">'
        + "".join(_pair(result, pair, card) for pair in panel.pairs)
        + "</div>"
        for panel in panels(result)
    )


def _lowest(scores: Scores, kind: NDArray[np.bool_], limit: np.floating) -> list[int]:
    """The lowest six pairs of a kind, ascending, equal ones in their order; six are <= limit."""
    chosen = np.flatnonzero(kind & (scores <= limit))
    ordered: list[int] = chosen[np.argsort(scores[chosen], kind="stable")][:_SHOWN].tolist()
    return ordered


def _pair(result: Result, pair: int, card: EmbedderCard) -> str:
    pairs = result.pairs
    faces = "".join(_face(result, int(side[pair]), card) for side in (pairs.first, pairs.second))
    similarity = result.scored[MODEL].scores[pair]
    return f"<figure>{faces}<figcaption>similarity {similarity:.3f}</figcaption></figure>"


def _face(result: Result, image: int, card: EmbedderCard) -> str:
    pixels = result.pairs.faces.decode(image, card.image_size, card.channels)
    data = base64.b64encode(encode_png(pixels)).decode()
    name = html.escape(result.pairs.faces.source(image))
    # Long names break where their words end.
    label = name.replace("/", "/<wbr>").replace("_", "_<wbr>")
    return (
        f'<div><img alt="face {name}" src="data:image/png;base64,{data}"><span>{label}</span></div>'
    )
