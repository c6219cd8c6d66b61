"""What a measurement found, rank by rank and put together."""

from __future__ import annotations

import statistics
from typing import Any

from pydantic import BaseModel, ConfigDict

from sf2cli.scaling.step_time import Rates, head_flops, mean_rates, step_time
from sf2cli.scaling.usage import TOLERATED_CORES, Usage, cores_lost
from sf2cli.scaling.workload import Point

WARM_UP_STEPS = 2
# What a measurement reports as done: rates, head made, warm-up, profile, bare products.
TICKS_BESIDE_STEPS = WARM_UP_STEPS + 4

DEFINITIONS = {
    "head": "sphereface2: one pass, all negatives or the fraction after the colon, the type of rows"
    " and momentum after the blank. cosface, arcface, normface: softmax sharded over the ranks, our"
    " own closed form, as is partialfc:RATE, CosFace on a sample of the classes. partialfc: CosFace"
    " on all classes in the published form of Partial FC, through autograd",
    "step_s": "seconds of a training step of the slowest rank: median, least and most, after"
    f" {WARM_UP_STEPS} steps that are not counted",
    "ids_samples_per_s": "identities x samples of the global batch / median step",
    "rank_peak_bytes": "the most memory the largest rank held, interpreter and libraries included",
    "beyond_bytes": "rank_peak_bytes less what the rank held before the head was made and less"
    " weights and momentum; the worst rank",
    "all_peaks_bytes": "the peaks of all ranks added up; pages of shared libraries count in each",
    "head_bytes": "all_peaks_bytes less what the processes held before the head was made",
    "shares": "of one profiled head step: matrix products, element-wise loss and gradients, update"
    " of weights and momentum, communication, and the rest; mean over the ranks. Of a fused step by"
    " the clocks of its fullest thread",
    "tile_product_flops": "6 B d tile flop / seconds of the three matrix products alone on one"
    " tile that stays in cache, in the head's types, all ranks at once, summed over the ranks; of"
    " torch's products and, where the step is fused, those of its own, the faster",
    "kernels": "what does the element-wise work; fused: the whole step is one compiled call",
    "product_fraction": "6 B d K flop / median head step / tile_product_flops",
    "cores_lost": "how many of the cores that the ranks wanted worked for other processes during"
    f" the timed steps; above {TOLERATED_CORES} the times are too long",
    "model_s": "the head's step by the model behind --target, fed with this machine's own rates,"
    " which the same processes measured just before; model_error: model_s / head_s - 1",
    "rates": "of one rank while all work: flop/s of the products alone; pairs of a feature and an"
    " identity turned into loss and gradient a second; bytes/s of weight and momentum updated;"
    " seconds of dispatch a tile and a step; seconds of a small collective, bytes/s of a large one",
}


_RATES = ("product_flops", "pairs", "update", "dispatch", "fixed", "latency", "link")


class RankResult(BaseModel):
    """What one rank found.

    Attributes:
        device: the type of it, "cpu" or "cuda".
        step_s, head_s: seconds of every timed step, of which in the head.
        losses: of every step from the first, warm-up included, on one repeated batch.
        before_bytes: held by the process before head and backbone were made.
        kept_bytes: of weights and momentum.
        peak_bytes: the most held, from then to the end of the timed steps.
        peak_was_reset: False where the kernel only tells the peak since the process began.
        phases: seconds of product, elementwise, update, communication and other in a step.
        product_flops: of the bare matrix products on one tile, all ranks at work.
        rates: of this rank, as the model wants them; None for a softmax head.
        usage: of the machine from the first timed step to the last.
        tile_rows: identities of a tile; 0 for all at once. A fused step has blocks of its own, and
            the tile is that of torch's bare products.
        products: the type the matrix products are taken in.
        kernels: what does the element-wise work, and why if it is slow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    step_s: list[float]
    head_s: list[float]
    losses: list[float]
    before_bytes: int
    kept_bytes: int
    peak_bytes: int
    peak_was_reset: bool
    phases: dict[str, float]
    product_flops: float
    rates: Rates | None
    usage: Usage
    tile_rows: int
    products: str
    kernels: str

    @property
    def beyond_bytes(self) -> int:
        """The peak less what was held before and less weights and momentum."""
        return max(0, self.peak_bytes - self.before_bytes - self.kept_bytes)


class Measurement(BaseModel):
    """A point and what its ranks found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    point: Point
    ranks: list[RankResult]

    @property
    def steps(self) -> list[float]:
        """Seconds of every timed step, of the slowest rank."""
        return [max(times) for times in zip(*(rank.step_s for rank in self.ranks), strict=True)]

    @property
    def median_s(self) -> float:
        """The median step."""
        return statistics.median(self.steps)

    @property
    def head_s(self) -> float:
        """The median of the part of a step in the head."""
        heads = zip(*(rank.head_s for rank in self.ranks), strict=True)
        return float(statistics.median(max(times) for times in heads))

    @property
    def peak_bytes(self) -> int:
        """Of the largest rank."""
        return max(rank.peak_bytes for rank in self.ranks)

    @property
    def all_peaks_bytes(self) -> int:
        """Of all ranks together."""
        return sum(rank.peak_bytes for rank in self.ranks)

    @property
    def cores_lost(self) -> float:
        """See `usage.cores_lost`; 0 on other devices than a CPU."""
        if self.ranks[0].device != "cpu":
            return 0.0
        workload = self.point.workload
        wanted = workload.nproc * workload.threads
        return cores_lost([rank.usage for rank in self.ranks], wanted)

    @property
    def shares(self) -> dict[str, float]:
        """The part of a head step that each phase takes."""
        whole = sum(sum(rank.phases.values()) for rank in self.ranks)
        return {
            phase: sum(rank.phases[phase] for rank in self.ranks) / whole
            for phase in self.ranks[0].phases
        }

    @property
    def rates(self) -> Rates | None:
        """The mean over the ranks."""
        found = [rank.rates for rank in self.ranks if rank.rates is not None]
        return mean_rates(found) if found else None

    @property
    def model_s(self) -> float | None:
        """The head's step as the model has it."""
        if self.rates is None:
            return None
        return step_time(self.point.head, self.point.num_ids, self.point.workload, self.rates).total

    def row(self, planned_rank_bytes: int) -> dict[str, Any]:
        """One row of scale.csv: flat, and its keys are its columns."""
        point, workload, rates = self.point, self.point.workload, self.rates
        rate = sum(rank.product_flops for rank in self.ranks)
        flops = head_flops(point.head, point.num_ids, workload)
        return {
            "head": point.head.label,
            "num_ids": point.num_ids,
            "device": self.ranks[0].device,
            "nproc": workload.nproc,
            "threads": workload.threads,
            "batch_size": workload.batch_size,
            "embedding_size": workload.embedding_size,
            "backbone": workload.backbone,
            "step_s": self.median_s,
            "step_min_s": min(self.steps),
            "step_max_s": max(self.steps),
            "head_s": self.head_s,
            "ids_samples_per_s": point.num_ids * workload.batch_size / self.median_s,
            "samples_per_s": workload.batch_size / self.median_s,
            "rank_peak_bytes": self.peak_bytes,
            "all_peaks_bytes": self.all_peaks_bytes,
            "head_bytes": sum(rank.peak_bytes - rank.before_bytes for rank in self.ranks),
            "kept_bytes": max(rank.kept_bytes for rank in self.ranks),
            "beyond_bytes": max(rank.beyond_bytes for rank in self.ranks),
            "planned_rank_bytes": planned_rank_bytes,
            **{f"share_{phase}": share for phase, share in self.shares.items()},
            "cores_lost": self.cores_lost,
            "products": self.ranks[0].products,
            "kernels": self.ranks[0].kernels,
            "tile_rows": self.ranks[0].tile_rows,
            "tile_product_flops": rate,
            "product_fraction": flops / self.head_s / rate,
            "model_s": self.model_s,
            "model_error": None if self.model_s is None else self.model_s / self.head_s - 1,
            **{f"rate_{name}": rates and getattr(rates, name) for name in _RATES},
            "first_loss": self.ranks[0].losses[0],
            "last_loss": self.ranks[0].losses[-1],
        }
