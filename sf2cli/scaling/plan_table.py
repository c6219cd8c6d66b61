"""The plan before anything is allocated: what each option holds, what fits, and what would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.scaling.plan import (
    BackboneCost,
    Budget,
    Platform,
    RankMemory,
    bytes_per_identity,
    largest_ids,
    rank_memory,
)
from sf2cli.scaling.units import show_bytes, show_count
from sf2cli.scaling.workload import HeadKind, Storage, Workload
from sf2cli.words import count_of


@dataclass(frozen=True)
class PlanLine:
    """One option for one number of identities.

    Attributes:
        chosen: whether the user asked for it, or it is an alternative.
        per_identity: bytes over all ranks, logits included.
        largest: the most identities that fit with this option.
    """

    head: HeadKind
    num_ids: int
    chosen: bool
    per_identity: float
    memory: RankMemory
    fits: bool
    largest: int

    def as_json(self) -> dict[str, Any]:
        """For scale.json."""
        return {
            "head": self.head.label,
            "num_ids": self.num_ids,
            "chosen": self.chosen,
            "bytes_per_identity": self.per_identity,
            "rank_bytes": {**asdict(self.memory), "total": self.memory.total},
            "fits": self.fits,
            "largest_num_ids": self.largest,
        }


def plan_lines(
    heads: Sequence[HeadKind],
    counts: Sequence[int],
    workload: Workload,
    budget: Budget,
    backbone: BackboneCost | None,
    platform: Platform,
) -> list[PlanLine]:
    """The chosen heads and SphereFace2's other options, for every number of identities."""
    everything = [*heads, *(other for other in _alternatives(heads) if other not in heads)]
    largest = {head: largest_ids(head, workload, budget, backbone, platform) for head in everything}
    lines = []
    for count in counts:
        for head in everything:
            needed = rank_memory(head, count, workload, backbone, platform)
            lines.append(
                PlanLine(
                    head=head,
                    num_ids=count,
                    chosen=head in heads,
                    per_identity=bytes_per_identity(
                        head, workload.embedding_size, workload.batch_size
                    ),
                    memory=needed,
                    fits=budget.holds(needed, workload.nproc),
                    largest=largest[head],
                )
            )
    return lines


def show_plan(
    lines: Sequence[PlanLine], budget: Budget, nproc: int, title: str, *, aside: bool
) -> None:
    """Print the parts of the largest number's memory, and what every number takes."""
    last = lines[-1].num_ids
    options = [line for line in lines if line.num_ids == last]
    names = [line.head.label if line.chosen else f"({line.head.label})" for line in options]
    there = f"{show_bytes(budget.bytes)} {'for all ranks' if budget.shared else 'a device'}"
    parts: list[list[str]] = [["bytes an identity", *(f"{x.per_identity:,.0f}" for x in options)]]
    for field in fields(RankMemory):
        sizes = [getattr(line.memory, field.name) for line in options]
        if any(sizes):
            parts.append([field.name, *(show_bytes(size) if size else "-" for size in sizes)])
    parts.append(["a rank", *(show_bytes(line.memory.total) for line in options)])
    if budget.shared and nproc > 1:
        totals = (show_bytes(nproc * line.memory.total) for line in options)
        parts.append([f"{nproc} ranks", *totals])
    parts.append(["fits", *("yes" if line.fits else "NO" for line in options)])
    parts.append(["identities that fit", *(show_count(line.largest) for line in options)])
    console.result_table(
        f"plan for {last:,} identities, {title}; {there}; alternatives in brackets",
        ["", *names],
        parts,
        aside=aside,
    )
    counts = list(dict.fromkeys(line.num_ids for line in lines))
    if len(counts) > 1:
        console.result_table(
            "a rank's memory for every number of identities",
            ["identities", *names],
            [
                [
                    f"{count:,}",
                    *(
                        show_bytes(line.memory.total) + ("" if line.fits else " NO")
                        for line in lines
                        if line.num_ids == count
                    ),
                ]
                for count in counts
            ],
            aside=aside,
        )


def require_fit(lines: Sequence[PlanLine], budget: Budget, nproc: int) -> None:
    """Refuse numbers of identities that a chosen SphereFace2 head cannot hold.

    A softmax head that does not fit is left out of the measurement and shown as such.

    Raises:
        Sf2Error: names the number, the need, and the options that make it fit.
    """
    for line in lines:
        if line.fits or not line.chosen or line.head.is_softmax:
            continue
        needed = line.memory.total * (nproc if budget.shared else 1)
        where = f"over {count_of(nproc, 'rank')}" if budget.shared else "a device"
        raise Sf2Error(
            f"--num-ids {line.num_ids} with {line.head.label} needs {show_bytes(needed)} {where},"
            f" {show_bytes(budget.bytes)} are there",
            _remedy(line, [other for other in lines if other.num_ids == line.num_ids]),
        )


def _remedy(line: PlanLine, options: Sequence[PlanLine]) -> str:
    own = [option for option in options if not option.head.is_softmax]
    fitting = [_flags(option.head) for option in own if option.fits]
    if fitting:
        return f"It fits with {' or with '.join(fitting)}; as asked, at most {line.largest} fit."
    best = max(own, key=lambda option: option.largest)
    return (
        f"No option makes it fit: at most {best.largest} identities do, with"
        f" {_flags(best.head)}; as asked, at most {line.largest}."
    )


def _flags(head: HeadKind) -> str:
    flags = f"--storage {head.storage}"
    return flags if head.momentum else f"{flags} --no-momentum"


def _alternatives(heads: Sequence[HeadKind]) -> list[HeadKind]:
    rate = next((head.rate for head in heads if not head.is_softmax), 1.0)
    storages: tuple[Storage, ...] = ("fp32", "bf16")
    return [
        HeadKind(storage=storage, momentum=momentum, rate=rate)
        for momentum in (True, False)
        for storage in storages
    ]
