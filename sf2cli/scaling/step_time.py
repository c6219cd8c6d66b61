"""How long a training step takes on a machine of which a few rates are known.

    products       6 B d K / R flop, at the rate of the three matrix products alone
    element-wise   B K / R pairs of a feature and an identity: loss and logit gradient
    update         bytes of weight and momentum, read and written once
    dispatch       Python and its calls, for the step and tile by tile; on a GPU only what the
                   kernels do not hide
    communication  gathering features and labels, scattering the features' gradient

Nothing else overlaps, so the parts add up. With sampling all but the communication shrink with
the rate. The same few lines serve this machine, whose rates are measured, and clusters that are not
here, whose rates come from data sheets.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from pydantic import BaseModel, ConfigDict

from sf2cli.scaling.workload import VALUE_BYTES, HeadKind, Workload

# In one step; labels and scalars travel with the features and their gradient.
_COLLECTIVES = 2
# Flop of the head for one feature and one weight value: cosine, and the gradients of both sides.
FLOP_PER_PRODUCT = 6


class Rates(BaseModel):
    """What one rank reaches while all ranks work.

    Attributes:
        product_flops: flop/s of the head's matrix products alone, tile by tile.
        pairs: pairs of a feature and an identity whose loss and gradient are made, a second.
        update: bytes of weight and momentum updated a second, each counted read and written.
        latency: seconds of a collective of a few bytes.
        link: bytes/s of a large all-gather or all-to-all, by the size of the whole.
        backbone: seconds of a step of the backbone.
        tile_rows: identities worked on at a time.
        dispatch: seconds of Python and its calls a tile.
        fixed: the same for a step, whatever its tiles.
        is_gpu: kernels run while Python goes on, so that only the longer of the two counts; and
            rows leave the cache between the kernels: they are read once more, and their gradient
            is written and read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_flops: float
    pairs: float
    update: float
    latency: float
    link: float
    tile_rows: int
    dispatch: float
    fixed: float = 0.0
    backbone: float = 0.0
    is_gpu: bool = False


def mean_rates(ranks: Sequence[Rates]) -> Rates:
    """The mean over the ranks."""
    found = [rank.model_dump() for rank in ranks]
    return Rates.model_validate(
        {name: statistics.fmean(rank[name] for rank in found) for name in found[0]}
    )


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, part by part."""

    product: float
    elementwise: float
    update: float
    dispatch: float
    communication: float
    backbone: float

    @property
    def total(self) -> float:
        """All of it."""
        return math.fsum(astuple(self))


def head_flops(head: HeadKind, num_ids: int, workload: Workload) -> float:
    """Flop of the matrix products of a step, over all ranks."""
    work = workload.batch_size * workload.embedding_size * num_ids
    return FLOP_PER_PRODUCT * work * head.rate


def step_time(
    head: HeadKind,
    num_ids: int,
    workload: Workload,
    rates: Rates,
    *,
    reduced_bytes: float = 0.0,
) -> StepTime:
    """Seconds of a step of a SphereFace2 head on ranks with these rates.

    Args:
        reduced_bytes: what the backbone's data parallelism sends and `rates.backbone` does not
            count, in bytes all-gathered.
    """
    rows = num_ids / workload.nproc * head.rate
    d, batch = workload.embedding_size, workload.batch_size
    communication = 0.0
    if workload.nproc > 1:
        sent = 2 * 4 * batch * d + reduced_bytes
        communication = _COLLECTIVES * rates.latency + sent / rates.link
    value = VALUE_BYTES[head.storage]
    moved = value * (2 * (1 + head.momentum) + 3 * rates.is_gpu)
    product = FLOP_PER_PRODUCT * batch * d * rows / rates.product_flops
    elementwise = batch * rows / rates.pairs
    update = moved * d * rows / rates.update
    dispatch = rates.fixed + rates.dispatch * rows / rates.tile_rows
    if rates.is_gpu:
        dispatch = max(0.0, dispatch - product - elementwise - update)
    return StepTime(product, elementwise, update, dispatch, communication, rates.backbone)
