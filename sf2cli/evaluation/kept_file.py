"""scores.npz, beside a report: what was kept of each of its sets.

For set k, its place in report.json, it holds one of
    pairs       `k.scores`, `k.issame` (a bit a pair) and, where the people are known, either
                `k.labels`, the person of each image whose pairs are all i < j, or `k.first` and
                `k.second`, the people of each pair
    searches    `k.people`, `k.galleries` (their names), and for gallery g `k.g.mate`, `k.g.rank`,
                `k.g.other` and `k.g.size`, as in `identification.Search`
    trials      `k.people`, `k.ranks`, `k.hits`
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.evaluate import MODEL, Evaluation, Result
from sf2cli.evaluation.identification import Search
from sf2cli.evaluation.kept import Kept, KeptPairs, KeptSearches, KeptTrials

# 4 bytes a pair: 80 MB a set.
MAX_PAIRS = 20_000_000
Arrays = dict[str, NDArray[Any]]


def pack_kept(evaluation: Evaluation) -> bytes:
    """The content of scores.npz; sets of more than MAX_PAIRS pairs are left out."""
    found = [_result(result) for result in evaluation.results]
    found += [_packed(finding.kept) for finding in evaluation.findings]
    stream = io.BytesIO()
    arrays = {f"{k}.{name}": value for k, one in enumerate(found) for name, value in one.items()}
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_kept(path: Path) -> dict[int, Kept]:
    """What scores.npz holds, by the sets' places in report.json.

    Raises:
        Sf2Error: missing, unreadable, or not as `pack_kept` writes it.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            places = sorted({int(name.split(".")[0]) for name in content})
            return {k: _unpacked(content, f"{k}.") for k in places}
    except OSError as failure:
        raise Sf2Error(
            f"scores {path}: cannot be read ({failure.strerror or failure})",
            "Evaluate the model again: a report keeps its scores beside it.",
        ) from None
    except (ValueError, KeyError, EOFError, IndexError, BadZipFile) as failure:
        raise Sf2Error(f"scores {path}: damaged ({failure})", "Evaluate the model again.") from None


def _result(result: Result) -> Arrays:
    pairs = result.pairs
    packed = _packed(KeptPairs(result.scored[MODEL].scores, pairs.issame))
    if packed and pairs.labels is not None:
        packed["labels"] = pairs.labels.astype(np.int32)
    return packed


def _packed(kept: Kept | None) -> Arrays:
    if kept is None:
        return {}
    if isinstance(kept, KeptTrials):
        return {"people": kept.people, "ranks": kept.ranks, "hits": kept.hits}
    if isinstance(kept, KeptSearches):
        packed: Arrays = {"people": kept.people, "galleries": np.array(list(kept.galleries))}
        for g, one in enumerate(kept.galleries.values()):
            packed[f"{g}.mate"], packed[f"{g}.rank"] = one.mate, one.rank.astype(np.int32)
            packed[f"{g}.other"], packed[f"{g}.size"] = one.best_other, np.array(one.people)
        return packed
    if len(kept) > MAX_PAIRS:
        return {}
    packed = {"scores": kept.scores, "issame": np.packbits(kept.issame)}
    if kept.first is not None and kept.second is not None:
        most = max(kept.first.max(), kept.second.max())
        for name, side in (("first", kept.first), ("second", kept.second)):
            packed[name] = side.astype(np.min_scalar_type(most))
    return packed


def _unpacked(content: Mapping[str, NDArray[Any]], k: str) -> Kept:
    if f"{k}hits" in content:
        people, hits = content[f"{k}people"], content[f"{k}hits"]
        ranks = content[f"{k}ranks"]
        _check(hits, (len(people), len(ranks)), "u", f"{k}hits")
        return KeptTrials(people, ranks, hits)
    if f"{k}galleries" in content:
        people = content[f"{k}people"]
        names = content[f"{k}galleries"].tolist()
        return KeptSearches(
            people,
            {name: _search(content, f"{k}{g}.", len(people)) for g, name in enumerate(names)},
        )
    scores = content[f"{k}scores"]
    _check(scores, (len(scores),), "f", f"{k}scores")
    issame = np.unpackbits(content[f"{k}issame"], count=len(scores)).astype(np.bool_)
    if f"{k}labels" in content:
        labels = content[f"{k}labels"]
        first, second = (labels[side] for side in np.triu_indices(len(labels), 1))
    elif f"{k}first" in content:
        first, second = content[f"{k}first"], content[f"{k}second"]
    else:
        return KeptPairs(scores, issame)
    for side in (first, second):
        _check(side, scores.shape, "iu", f"people of {k}scores")
    return KeptPairs(scores, issame, first, second)


def _search(content: Mapping[str, NDArray[Any]], g: str, probes: int) -> Search:
    mate, rank, other = (content[f"{g}{name}"] for name in ("mate", "rank", "other"))
    for array, kind in ((mate, "f"), (rank, "i"), (other, "f")):
        _check(array, (probes,), kind, g)
    size = int(content[f"{g}size"])
    return Search(rank > 0, mate, rank, other, size, np.empty(0, np.float32))


def _check(array: NDArray[Any], shape: Sequence[int], kinds: str, name: str) -> None:
    if array.shape != tuple(shape) or array.dtype.kind not in kinds:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {tuple(shape)}")
