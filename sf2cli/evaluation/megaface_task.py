"""MegaFace as a protocol: its photos in, identification and verification out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.blocks import to_unit
from sf2cli.evaluation.file_faces import FileFaces
from sf2cli.evaluation.finding import Chart, Finding, Origin, share
from sf2cli.evaluation.kept import KeptTrials
from sf2cli.evaluation.measure import with_binomial
from sf2cli.evaluation.megaface import FARS, RANKS, MegaFace, search_distractors
from sf2cli.evaluation.megaface_files import MegaFaceFiles, read_megaface
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.tables import BINOMIAL, rank_details, tar_columns, tar_details, wanting

DEFINITIONS = {
    "MegaFace rank-k": (
        "Each ordered pair of two photos of one FaceScrub person is a trial: one in the gallery"
        " beside all distractors, the other the probe. It is a hit if the gallery photo is more"
        " similar to the probe than the k-th most similar distractor."
    ),
    "MegaFace TAR at FAR": (
        "Genuine pairs are all pairs of photos of one FaceScrub person, impostors all pairs of a"
        " FaceScrub photo and a distractor. TAR at the lowest threshold whose FAR does not exceed"
        " the target; nothing is interpolated."
    ),
    "MegaFace noise": (
        "Photos on the noise lists are left out, probes and distractors alike, which gives the"
        " ranks that InsightFace's cleaning gives by making them match nothing."
    ),
    "interval of a rate": BINOMIAL,
}


@dataclass(frozen=True)
class MegaFaceTask:
    """The protocol of one folder."""

    origin: Origin
    files: MegaFaceFiles
    baseline: bool = False

    @property
    def faces(self) -> FileFaces:
        """Probes, then distractors."""
        return self.files.photos

    def measure(self, rows: Mapping[str, NDArray[Any]]) -> list[Finding]:
        """See `Task.measure`."""
        return [self._finding(name, mine) for name, mine in rows.items()]

    def _finding(self, name: str, rows: NDArray[Any]) -> Finding:
        files, origin = self.files, self.origin
        probes = len(files.people)
        # A million distractors are held once, and scaled where they are.
        unit = np.require(rows, np.float32, ["C", "W"])
        to_unit(unit)
        found = search_distractors(
            unit[:probes], files.people, unit[probes:], f"{origin.name}: compare"
        )
        ranks = [found.rank_rate(rank) for rank in RANKS]
        genuine = len(found.genuine)
        targets = with_binomial(tuple(found.tar_at_far(far) for far in FARS), genuine)
        people = len(np.unique(files.people))
        notes = wanting(targets)
        if found.distractors < max(RANKS):
            notes.append(f"Rank {max(RANKS)} says nothing of {found.distractors:,} distractors.")
        lonely = int((np.bincount(files.people) == 1).sum())
        if lonely:
            notes.append(f"People with one photo: {lonely:,}; each is a probe without a mate.")
        if files.repeated:
            notes.append(f"Lines that name a photo again: {files.repeated:,}; each counts once.")
        if files.cleaned:
            notes.append(
                f"Left out by the noise lists: probes {files.noisy_probes:,}, distractors"
                f" {files.noisy_distractors:,}."
            )
        else:
            notes.append("There is no noise list: mislabelled photos count as errors.")
        return Finding(
            origin=origin,
            heading=origin.name,
            counts=(
                f"{probes:,} FaceScrub photos of {people:,} people,"
                f" {found.distractors:,} distractors, {2 * genuine:,} trials"
            ),
            numbers={
                "probes": probes,
                "people": people,
                "distractors": found.distractors,
                "noisy_probes": files.noisy_probes,
                "noisy_distractors": files.noisy_distractors,
                "results": {
                    name: {
                        "rank_rates": [asdict(one) for one in ranks],
                        "tar_at_far": [asdict(one) for one in targets],
                    }
                },
            },
            table=Table(
                "",
                ["", *(f"rank\n{rank}" for rank in RANKS), *tar_columns(FARS)],
                [
                    [
                        name,
                        *(share(one.rate) for one in ranks),
                        *(share(one.tar) for one in targets),
                    ]
                ],
            ),
            details=[
                rank_details("Identification rate", {name: ranks}, "Hits of trials"),
                tar_details("TAR at FAR", {name: targets}, genuine),
            ],
            charts=[_cmc(name, found)],
            notes=notes,
            definitions=DEFINITIONS,
            kept=_kept(found, files.people),
        )


def open_megaface(root: Path) -> MegaFaceTask:
    """MegaFace in `root`.

    Raises:
        Sf2Error: as `read_megaface`.
    """
    files = read_megaface(root)
    origin = Origin(
        name="MegaFace",
        protocol="MegaFace",
        source=root,
        data_sha256=files.data_sha256,
        hashed="each photo's name and size",
    )
    return MegaFaceTask(origin, files)


def _kept(found: MegaFace, people: NDArray[np.int64]) -> KeptTrials:
    """The trials; the impostor pairs, of which only the highest are known, cannot be kept."""
    ranks = [rank for rank in RANKS if rank <= found.distractors]
    hits = [found.hits(rank) for rank in ranks]
    return KeptTrials(people[found.first], np.array(ranks), np.stack(hits, axis=1))


def _cmc(name: str, found: MegaFace) -> Chart:
    ranks = np.unique(np.geomspace(1, max(RANKS), 20).round().astype(int))
    ranks = ranks[ranks <= found.distractors]
    rates = [found.rank_rate(int(rank)).rate or 0.0 for rank in ranks]
    return Chart(
        f"CMC among {found.distractors:,} distractors.",
        "rank (log scale)",
        "identification rate",
        {name: (ranks, rates)},
        log_x=True,
        x_kind="whole",
    )
