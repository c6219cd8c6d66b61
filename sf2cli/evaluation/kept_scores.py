"""The scores of a report's pairs, kept beside it so that runs can be compared pair by pair.

scores.npz holds for set k: `k.scores`, the model's; `k.issame`, a bit a pair; and where identities
are known `k.labels`, an identity's number for each image, with `k.first` and `k.second`, the
images of each pair, unless the pairs are all i < j.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error, why
from sf2cli.evaluation.evaluate import MODEL, Result
from sf2cli.evaluation.scoring import Scores

# 4 bytes a pair: 80 MB a set.
MAX_PAIRS = 20_000_000


@dataclass(frozen=True)
class KeptScores:
    """The pairs of one set.

    Args:
        scores: similarities [pairs].
        issame: True for genuine pairs, bool [pairs].
        first, second: the identity of each pair's images, int64 [pairs]; None where unknown.
    """

    scores: Scores
    issame: NDArray[np.bool_]
    first: NDArray[np.int64] | None
    second: NDArray[np.int64] | None


def pack_scores(results: Sequence[Result]) -> bytes:
    """The content of scores.npz; sets of more than MAX_PAIRS pairs are left out."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for k, result in enumerate(results):
        pairs = result.pairs
        if len(pairs) > MAX_PAIRS:
            continue
        arrays[f"{k}.scores"] = result.scored[MODEL].scores
        arrays[f"{k}.issame"] = np.packbits(pairs.issame)
        if pairs.labels is not None:
            arrays[f"{k}.labels"] = pairs.labels.astype(np.int32)
            if not pairs.all_pairs:
                arrays[f"{k}.first"], arrays[f"{k}.second"] = pairs.first, pairs.second
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_scores(path: Path) -> dict[int, KeptScores]:
    """The sets of scores.npz by their place in report.json.

    Raises:
        Sf2Error: missing, unreadable, or not as `pack_scores` writes it.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return {
                int(name.split(".")[0]): _set(content, name.split(".")[0])
                for name in content
                if name.endswith(".scores")
            }
    except OSError as failure:
        raise Sf2Error(
            f"scores {path}: cannot be read ({why(failure)})",
            "Evaluate the model again: a report keeps its scores beside it.",
        ) from None
    except (ValueError, KeyError, EOFError, IndexError, BadZipFile) as failure:
        raise Sf2Error(f"scores {path}: damaged ({failure})", "Evaluate the model again.") from None


def _set(content: np.lib.npyio.NpzFile, k: str) -> KeptScores:
    scores = content[f"{k}.scores"]
    if scores.ndim != 1 or scores.dtype.kind != "f":
        raise ValueError(f"{k}.scores is {scores.dtype} {scores.shape}")
    issame = np.unpackbits(content[f"{k}.issame"], count=len(scores)).astype(np.bool_)
    if f"{k}.labels" not in content:
        return KeptScores(scores, issame, None, None)
    labels = content[f"{k}.labels"].astype(np.int64)
    if f"{k}.first" in content:
        first, second = content[f"{k}.first"], content[f"{k}.second"]
    else:
        first, second = np.triu_indices(len(labels), 1)
    if len(first) != len(scores):
        raise ValueError(f"{k}: {len(first)} pairs for {len(scores)} scores")
    return KeptScores(scores, issame, labels[first], labels[second])
