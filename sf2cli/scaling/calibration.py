"""This machine's own rates, as `calibrate` measured them on its ranks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from sf2cli.scaling.step_time import Rates


class HeadRates(BaseModel):
    """The rates that depend on the head's storage: see `Rates`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_flops: float
    pairs: float
    update: float
    tile_rows: int
    dispatch: float
    fixed: float


class Calibration(BaseModel):
    """What one rank found, or the mean over the ranks.

    Attributes:
        heads: by `HeadKind.label`.
        latency, link: of the collectives; see `Rates`.
        backbone_s: a step of the backbone, its communication included; 0 without one.
        process_bytes: what a rank holds before any head is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: dict[str, HeadRates]
    latency: float
    link: float
    backbone_s: float
    process_bytes: int

    def rates(self, label: str) -> Rates:
        """For the head of that label."""
        head = self.heads[label]
        return Rates(
            product_flops=head.product_flops,
            pairs=head.pairs,
            update=head.update,
            latency=self.latency,
            link=self.link,
            tile_rows=head.tile_rows,
            dispatch=head.dispatch,
            fixed=head.fixed,
            backbone=self.backbone_s,
        )


def mean(ranks: Sequence[Calibration]) -> Calibration:
    """The mean over the ranks; the largest process."""

    def of(label: str) -> HeadRates:
        found = [rank.heads[label].model_dump() for rank in ranks]
        values = {name: statistics.fmean(rank[name] for rank in found) for name in found[0]}
        return HeadRates.model_validate(values)

    return Calibration(
        heads={label: of(label) for label in ranks[0].heads},
        latency=statistics.fmean(rank.latency for rank in ranks),
        link=statistics.fmean(rank.link for rank in ranks),
        backbone_s=statistics.fmean(rank.backbone_s for rank in ranks),
        process_bytes=max(rank.process_bytes for rank in ranks),
    )
