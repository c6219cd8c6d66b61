"""Training on a random part of the negatives, without bias.

Every step a share of each rank's classifiers is drawn, anew and without replacement; the drawn
ones' negatives count 1 / share, so that the gradient is the full one in expectation. Positives are
never left out: the classifier of a sample's own identity takes part always, for its positive in
full and for its negatives only when drawn. Rows that take no part in a step are left alone: their
weights do not decay and their momentum waits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sf2cli.heads.tiles import Tile, row_tiles


def sampled_tiles(
    weight: Tensor, labels: Tensor, fraction: float, tile_size: int, seed: int
) -> Iterator[Tile]:
    """Copies of the rows that take part in a step.

    Args:
        weight: [shard, d].
        labels: [B] int64 on the CPU, relative to the shard.
        fraction: share of the rows to draw, in (0, 1); at least one row of each stretch.
        tile_size: rows a tile, about.
        seed: of this step's draw.
    """
    exact = torch.promote_types(weight.dtype, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    positives = torch.unique(labels[(labels >= 0) & (labels < len(weight))])
    for stretch in row_tiles(len(weight), max(1, round(tile_size / fraction))):
        rows = stretch.stop - stretch.start
        count = max(1, round(rows * fraction))
        drawn = torch.zeros(rows, dtype=torch.bool)
        drawn[torch.randperm(rows, generator=generator)[:count]] = True
        taking_part = drawn.clone()
        within = positives[(positives >= stretch.start) & (positives < stretch.stop)]
        taking_part[within - stretch.start] = True
        chosen = taking_part.nonzero().squeeze(1)
        index = (chosen + stretch.start).to(weight.device, non_blocking=True)
        row_weight = (drawn[chosen] * (rows / count)).to(weight.device, exact, non_blocking=True)
        yield Tile(index, stretch.start, weight[index], row_weight)
