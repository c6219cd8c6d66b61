"""Open-set identification on a packed set: a gallery, probes of its people, and of strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.blocks import unit_rows
from sf2cli.evaluation.conventions import Convention
from sf2cli.evaluation.finding import Finding, Origin, share
from sf2cli.evaluation.identification import (
    FPIRS,
    RANKS,
    RankRate,
    Search,
    TpirAtFpir,
    rank_rate,
    search,
    tpir_at_fpir,
    tpir_by_pairs,
)
from sf2cli.evaluation.kept import KeptSearches
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.tables import (
    BINOMIAL,
    cmc_chart,
    open_set_chart,
    rank_details,
    tpir_columns,
    tpir_details,
    unsupported,
)

_PIXELS_OF = 5_000
DEFINITIONS = {
    "rank-k": (
        "Closed-set identification rate: the share of mated probes whose person is among the k"
        " most similar people of the gallery; people as similar as the right one stand before it."
    ),
    "interval of a rate": BINOMIAL,
}
TPIR: dict[Convention, str] = {
    "sf2": (
        "True positive identification rate: the share of mated probes whose person has rank 1 and a"
        " similarity at or above the threshold, which is the lowest that keeps FPIR at or below the"
        " target. FPIR is the share of non-mated probes that resemble anybody so much. Not given if"
        " the target is less than one non-mated probe."
    ),
    "insightface": (
        "As InsightFace and opensphere compute it, which is not the open-set definition: the"
        " threshold is the ceil(FPIR x probes)-th highest similarity of all pairs of a probe and"
        " another person, and TPIR the share of all probes whose own person is above it."
    ),
}
TPIR["opensphere"] = TPIR["insightface"]


@dataclass(frozen=True)
class Draw:
    """Which images do what: numbers [gallery], [probes]; and people drawn as strangers."""

    gallery: NDArray[np.int64]
    probes: NDArray[np.int64]
    strangers: int
    single: int


def draw(labels: NDArray[np.int64], seed: int) -> Draw:
    """Enrol one image each of half of the people who have two or more.

    All other images are probes: of the enrolled, with a mate; of the rest, who include everybody
    with one image, without.

    Args:
        labels: the person of each image [n].
        seed: of numpy's PCG64, for the people and the enrolled image.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    people, counts = np.unique(labels, return_counts=True)
    able = generator.permutation(people[counts > 1])
    enrolled = np.sort(able[: (len(able) + 1) // 2])
    # The images of one person stand together in `order`.
    order = np.argsort(labels, kind="stable")
    place = np.searchsorted(people, enrolled)
    starts = np.cumsum(counts) - counts
    gallery = order[starts[place] + generator.integers(0, counts[place])]
    probes = np.setdiff1d(np.arange(len(labels)), gallery)
    return Draw(gallery, probes, len(people) - len(enrolled), int((counts == 1).sum()))


@dataclass(frozen=True)
class OpenSet:
    """The protocol on one set."""

    origin: Origin
    faces: PackedSet
    drawn: Draw
    seed: int
    convention: Convention

    @property
    def baseline(self) -> bool:
        """Pixels of more images would fill the memory."""
        return len(self.faces) <= _PIXELS_OF

    def measure(self, rows: Mapping[str, NDArray[Any]]) -> list[Finding]:
        """See `Task.measure`."""
        labels, drawn = self.faces.labels, self.drawn
        found = {}
        for name, all_rows in rows.items():
            found[name] = search(
                unit_rows(all_rows[drawn.probes]),
                labels[drawn.probes],
                unit_rows(all_rows[drawn.gallery]),
                labels[drawn.gallery],
                f"{self.origin.name}: identify, {name}",
            )
        any_one = next(iter(found.values()))
        mated = int(any_one.mated.sum())
        counts = (
            f"open-set identification, {len(drawn.gallery):,} people in the gallery,"
            f" {mated:,} mated probes, {len(drawn.probes) - mated:,} probes of"
            f" {drawn.strangers:,} people who are not in it, drawn by seed {self.seed}"
        )
        numbers = {"seed": self.seed, "convention": self.convention, "gallery": len(drawn.gallery)}
        finding = identified(self.origin, "identification", counts, numbers, found, self.convention)
        return [replace(finding, kept=KeptSearches(labels[drawn.probes], {"gallery": any_one}))]


def open_identification(folder: Path, seed: int, convention: Convention) -> OpenSet:
    """The packed set in `folder` as an open-set identification protocol.

    Raises:
        Sf2Error: an unreadable set, nobody with two images, or nobody left as a stranger.
    """
    packed = PackedSet.open(folder)
    drawn = draw(packed.labels, seed)
    if not len(drawn.gallery):
        raise Sf2Error(
            f"--identify {folder}: none of its {packed.manifest.num_identities} people has two"
            " images",
            "Identification needs one image to enrol and another to recognise.",
        )
    if not drawn.strangers:
        raise Sf2Error(
            f"--identify {folder}: its only person is enrolled, and nobody is left as a stranger",
            "Open-set identification needs people who are not in the gallery.",
        )
    return OpenSet(Origin.of(packed, "open-set identification"), packed, drawn, seed, convention)


def identified(
    origin: Origin,
    what: str,
    counts: str,
    numbers: dict[str, Any],
    found: Mapping[str, Search],
    convention: Convention,
    averaged: bool = False,
) -> Finding:
    """The finding of searches, by name; `averaged` adds their mean, as for two galleries."""
    tpir = tpir_at_fpir if convention == "sf2" else tpir_by_pairs
    ranks = {name: [rank_rate(one, rank) for rank in RANKS] for name, one in found.items()}
    open_set = {name: [tpir(one, fpir) for fpir in FPIRS] for name, one in found.items()}
    rows = [[name, *_cells(ranks[name], open_set[name])] for name in found]
    if averaged:
        rows.append(["mean", *_means(ranks, open_set)])
    columns = [f"rank\n{rank}" for rank in RANKS]
    columns += tpir_columns(FPIRS, convention)
    curve = open_set_chart(found)
    notes: list[str] = []
    few = [name for name, one in found.items() if one.people < max(RANKS)]
    if few:
        notes.append(
            f"Rank {max(RANKS)} says nothing of a gallery of"
            f" {min(found[name].people for name in few):,} people."
        )
    for name, one in found.items():
        prefix = f"{name}: " if averaged else ""
        notes += [f"{prefix}{told}" for told in _unmeasured(one, open_set[name][0])]
    return Finding(
        origin=origin,
        heading=f"{origin.name}: {what}",
        counts=counts,
        numbers={
            **numbers,
            "results": {
                name: {
                    "rank_rates": [asdict(one) for one in ranks[name]],
                    "tpir_at_fpir": [asdict(one) for one in open_set[name]],
                }
                for name in found
            },
        },
        table=Table("", ["", *columns], rows),
        details=[
            rank_details("Identification rate", ranks, "Hits of mated probes"),
            tpir_details(open_set, convention),
        ],
        charts=[cmc_chart(found), *([curve] if curve else [])],
        # Contenders are searched for in the same gallery.
        notes=list(dict.fromkeys(notes)),
        definitions={**DEFINITIONS, "TPIR at FPIR": TPIR[convention]},
    )


def _unmeasured(found: Search, strictest: TpirAtFpir) -> list[str]:
    """Why there is no number, if there is none."""
    if strictest.tpir is not None:
        return []
    strangers = int((~found.mated).sum())
    if strangers == len(found.mated):
        return ["No probe has a mate, so that neither ranks nor TPIR can be measured."]
    if not strangers:
        return ["Every probe has a mate, so that FPIR cannot be measured."]
    return [unsupported(strictest.fpir, strangers, "FPIR", "non-mated probes")]


def _cells(ranks: list[RankRate], open_set: list[TpirAtFpir]) -> list[str]:
    return [*(share(one.rate) for one in ranks), *(share(one.tpir) for one in open_set)]


def _means(ranks: dict[str, list[RankRate]], open_set: dict[str, list[TpirAtFpir]]) -> list[str]:
    """Each column's mean over the galleries; a dash where one of them has no number."""
    columns = [[one.rate for one in each] for each in zip(*ranks.values(), strict=True)]
    columns += [[one.tpir for one in each] for each in zip(*open_set.values(), strict=True)]
    found = []
    for column in columns:
        known = [value for value in column if value is not None]
        found.append(share(sum(known) / len(known) if len(known) == len(column) else None))
    return found
