"""A saved head given to a head over other identities: rows go by name, not by number.

The classifiers do not compete, so a row means the same whatever other rows there are; only the
bias, which weighs one positive against all the negatives, has to follow their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.errors import Sf2Error
from sf2cli.heads.initial import initialize_rows_
from sf2cli.heads.manifest import HeadManifest, read_range
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.shard_file import BLOCK_ROWS
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2, initial_bias
from sf2cli.heads.tiles import row_tiles

NewRows = Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]
"""Takes class ids, int64 ascending, and yields all of them in parts, with a row [n, d] for each."""


@dataclass(frozen=True)
class Graft:
    """Which old rows a new identity takes.

    Args:
        carried: int64 [n, 2], (old id, new id) of those that take one row, ascending.
        merged: the same of those that take several.
        new: int64, ascending: the new ids that take none.
        dropped: how many old rows nobody takes.
    """

    carried: Tensor
    merged: Tensor
    new: Tensor
    dropped: int

    @classmethod
    def of(cls, old: Sequence[str], new: Sequence[str], renamed: Mapping[str, str]) -> Graft:
        """An old row goes to the identity of its name, or of the name that `renamed` gives it.

        Args:
            old: the name of every old class id, in order.
            new: the name of every new one.
            renamed: old name to new name; where two rows go to one identity they are merged.

        Raises:
            Sf2Error: `renamed` names an identity that is not there.
        """
        ids = {name: i for i, name in enumerate(new)}
        if renamed:
            _check_names(renamed.keys(), set(old), "the run to start from")
            _check_names(renamed.values(), ids.keys(), "the training set")
        targets = (ids.get(renamed.get(name, name), -1) for name in old)
        target = torch.from_numpy(np.fromiter(targets, np.int64, len(old)))
        placed = (target >= 0).nonzero().flatten()
        counts = torch.bincount(target[placed], minlength=len(new))
        moves = torch.stack((placed, target[placed]), 1)
        alone = counts[moves[:, 1]] == 1
        return cls(
            carried=moves[alone],
            merged=moves[~alone],
            new=(counts == 0).nonzero().flatten(),
            dropped=len(old) - len(moves),
        )

    def __str__(self) -> str:
        merged = f"{len(self.merged)} merged into {len(self.merged[:, 1].unique())}"
        return (
            f"{len(self.carried)} rows carried, {merged}, {len(self.new)} new,"
            f" {self.dropped} dropped"
        )


def _check_names(names: Collection[str], known: Collection[str], where: str) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Sf2Error(
            f"start.renamed: identity {missing[0]!r}{more} is not in {where}",
            "Each line is OLD, a tab, NEW: OLD is a name of that run, NEW one of the new set.",
        )


def rebalanced_bias(
    bias: float, old: SphereFace2, old_classes: int, new: SphereFace2, new_classes: int
) -> float:
    """The bias for another number of classifiers.

    A classifier's best logit is a log likelihood ratio plus the log of the weight of its positive
    over that of its negatives, ln z with z = lambda / ((1 - lambda)(K - 1)): the similarities of
    other identities are spread as before, there are only more of them. So the same rows want every
    logit moved by ln((K - 1) / (K' - 1)), and a constant on every logit is what b is. (The balanced
    initialisation moves by the same but for terms in z: it starts from one cosine for all.) Other
    settings of the loss move it by the difference of their balanced initialisations at K'.
    """
    negatives, new_negatives = (max(1, classes - 1) for classes in (old_classes, new_classes))
    settings = initial_bias(new, new_classes) - initial_bias(old, new_classes)
    return bias + math.log(negatives / new_negatives) + settings


@torch.no_grad()
def graft_head(
    folder: Path,
    manifest: HeadManifest,
    graft: Graft,
    head: ShardedHead,
    optimizer: HeadSGD,
    new_rows: NewRows,
    *,
    keep_momentum: bool,
) -> None:
    """Fill this rank's rows from the head saved in `folder`, and the bias; not collective.

    Beside the shard no more than a tile of rows is held. Merged rows become the mean direction of
    their sources. Momentum of new and merged rows is zero, of carried rows and of the bias as
    saved with `keep_momentum` and zero without; `optimizer.steps` starts over. Both heads are
    SphereFace2's.

    Raises:
        Sf2Error: a file cannot be read, sizes differ, no momentum to keep, or a row that is not
            finite or has no direction.
    """
    path = folder / "head.json"
    assert isinstance(manifest.loss, SphereFace2)
    assert manifest.bias is not None
    if manifest.embedding_size != head.embedding_size:
        raise Sf2Error(
            f"{path}: embedding_size is {manifest.embedding_size}, the recipe's is"
            f" {head.embedding_size}",
            "Start with the backbone section of that run's recipe.yaml.",
        )
    weight = head.weight.data
    into = {"weight": weight.zero_()}
    if keep_momentum and optimizer.weight_momentum is not None:
        if not manifest.optimizer.momentum:
            raise Sf2Error(f"{path}: saved without momentum", "Say momentum: zero under start.")
        into["momentum"] = optimizer.weight_momentum
        optimizer.bias_momentum.fill_(manifest.bias_momentum or 0.0)
    _carry(folder, manifest, graft.carried, head.start, into)
    _carry(folder, manifest, graft.merged, head.start, {"weight": weight})
    _mean_directions(folder, graft.merged[:, 1].unique(), head.start, weight)
    mine = graft.new[(graft.new >= head.start) & (graft.new < head.stop)]
    for ids, rows in new_rows(mine):
        weight[ids.to(weight.device) - head.start] = rows.to(weight)
    head.bias.fill_(
        rebalanced_bias(
            manifest.bias, manifest.loss, manifest.num_classes, head.hp, head.num_classes
        )
    )
    for tile in row_tiles(head.rows, BLOCK_ROWS):
        if not weight[tile].isfinite().all():
            raise Sf2Error(f"{path}: rows that are not finite", f"See `sf2 head info {folder}`.")


def random_rows(embedding_size: int, seed: int) -> NewRows:
    """Directions uniform on the sphere, for class ids of any order of ranks alike."""

    def draw(ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if not len(ids):
            return
        first, last = int(ids[0]), int(ids[-1])
        for tile in row_tiles(last + 1 - first, BLOCK_ROWS):
            low = first + tile.start
            here = ids[(ids >= low) & (ids < first + tile.stop)]
            if len(here):
                rows = torch.empty(tile.stop - tile.start, embedding_size)
                initialize_rows_(rows, low, seed)
                yield here, rows[here - low]

    return draw


def _carry(
    folder: Path, manifest: HeadManifest, moves: Tensor, start: int, into: dict[str, Tensor]
) -> None:
    """Add rows to this rank's, which are zero there, block by block in the order of the files.

    Args:
        moves: int64 [n, 2], (old id, new id), ascending.
    """
    new = moves[:, 1] - start
    here = (new >= 0) & (new < len(into["weight"]))
    old, new = moves[here, 0].contiguous(), new[here]
    for entry in manifest.files:
        for block in row_tiles(entry.stop - entry.start, BLOCK_ROWS):
            ends = torch.tensor([entry.start + block.start, entry.start + block.stop])
            low, high = torch.searchsorted(old, ends).tolist()
            if low == high:
                continue
            first, last = int(old[low]), int(old[high - 1])
            places = new[low:high].to(into["weight"].device)
            for name, target in into.items():
                rows = torch.empty(last + 1 - first, target.shape[1], dtype=target.dtype)
                read_range(folder, manifest, first, {name: rows})
                target.index_add_(0, places, rows[old[low:high] - first].to(target.device))


def _mean_directions(folder: Path, merged: Tensor, start: int, weight: Tensor) -> None:
    """Give the sums of unit rows at these new ids unit length."""
    mine = merged[(merged >= start) & (merged < start + len(weight))] - start
    for some in mine.to(weight.device).split(BLOCK_ROWS):
        sums = weight[some].to(torch.promote_types(weight.dtype, torch.float32))
        if not (sums.norm(dim=1) > 1e-3).all():
            raise Sf2Error(
                f"{folder}: rows that start.renamed merges point in opposite directions",
                "Take them out of the file.",
            )
        weight[some] = F.normalize(sums).to(weight.dtype)
