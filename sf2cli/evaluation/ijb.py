"""IJB-B and IJB-C, 1:1 and 1:N, from one embedding of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.conventions import TAR_RULES, Convention, tars_at_fars
from sf2cli.evaluation.crops import Crops
from sf2cli.evaluation.finding import Finding, Origin, share
from sf2cli.evaluation.identification import search
from sf2cli.evaluation.ijb_files import IjbFiles, read_ijb
from sf2cli.evaluation.ijb_lists import People
from sf2cli.evaluation.joined import people_of_pairs
from sf2cli.evaluation.kept import KeptPairs, KeptSearches
from sf2cli.evaluation.measure import det, with_binomial
from sf2cli.evaluation.open_set import identified
from sf2cli.evaluation.pair_set import Repeats
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.scoring import dense_cosines
from sf2cli.evaluation.tables import (
    BINOMIAL,
    det_chart,
    roc_chart,
    tar_columns,
    tar_details,
    wanting,
)
from sf2cli.evaluation.templates import Templates, pool
from sf2cli.evaluation.verification import SortedScores, auc, eer

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Ijb:
    """The protocols of one packaging."""

    origin: Origin
    files: IjbFiles
    convention: Convention
    baseline: bool = False

    @property
    def faces(self) -> Crops:
        """The aligned crops."""
        return self.files.crops

    def measure(self, rows: Mapping[str, NDArray[Any]]) -> list[Finding]:
        """See `Task.measure`."""
        return [
            finding
            for name, features in rows.items()
            for finding in self._findings(name, np.asarray(features, np.float32))
        ]

    def _findings(self, name: str, features: NDArray[np.float32]) -> list[Finding]:
        files = self.files
        # opensphere weighs all images alike.
        weights = None if self.convention == "opensphere" else files.score
        templates = pool(features, files.template, files.medium, weights)
        found = []
        if files.pairs is not None:
            found.append(self._one_to_one(name, templates, files.pairs))
        if files.probes is not None and files.galleries:
            found.append(self._one_to_many(templates, files.probes))
        return found

    def _one_to_one(self, name: str, templates: Templates, pairs: NDArray[np.int64]) -> Finding:
        origin = self.origin
        first, second = (templates.places(side) for side in pairs[:, :2].T)
        scores = dense_cosines(templates.rows, first, second, f"{origin.name}: compare")
        same = pairs[:, 2] == 1
        people = people_of_pairs(first, second, same, len(templates.ids))
        split = SortedScores.of(scores, same)
        genuine, impostor = len(split.genuine), len(split.impostor)
        targets = with_binomial(tars_at_fars(split, FARS, self.convention), genuine)
        rate, area = eer(split), auc(split)
        return Finding(
            origin=origin,
            heading=f"{origin.name}: 1:1",
            counts=(
                f"{len(self.faces):,} images, {len(templates.ids):,} templates,"
                f" {genuine:,} genuine and {impostor:,} impostor pairs"
            ),
            numbers={
                "images": len(self.faces),
                "templates": len(templates.ids),
                "genuine": genuine,
                "impostor": impostor,
                "convention": self.convention,
                "results": {
                    name: {
                        "eer": rate.rate,
                        "eer_threshold": rate.threshold,
                        "auc": area,
                        "tar_at_far": [asdict(one) for one in targets],
                        "det": asdict(det(split)),
                    }
                },
            },
            table=Table(
                "",
                ["", "EER", *tar_columns(FARS, self.convention)],
                [[name, share(rate.rate), *(share(one.tar) for one in targets)]],
            ),
            details=[tar_details("TAR at FAR", {name: targets}, genuine, self.convention)],
            charts=[roc_chart({name: split}), det_chart({name: split})],
            notes=[
                *wanting(targets),
                *Repeats.of(first, second, same).notes(),
                *self._remarks(templates),
            ],
            definitions={
                "template": self._pooling(),
                "TAR at FAR": TAR_RULES[self.convention],
                "interval of a rate": BINOMIAL,
            },
            kept=KeptPairs(scores, same, people[first], people[second]),
        )

    def _one_to_many(self, templates: Templates, probes: People) -> Finding:
        origin, galleries = self.origin, self.files.galleries
        if self.convention != "sf2":
            # The peers search all galleries as if they were one.
            galleries = {
                " + ".join(galleries): People(
                    np.concatenate([one.templates for one in galleries.values()]),
                    np.concatenate([one.subjects for one in galleries.values()]),
                    sum(one.repeated for one in galleries.values()),
                )
            }
        rows = templates.rows[templates.places(probes.templates)]
        found = {
            f"gallery {name}": search(
                rows,
                probes.subjects,
                templates.rows[templates.places(gallery.templates)],
                gallery.subjects,
                f"{origin.name}: identify, {name}",
            )
            for name, gallery in galleries.items()
        }
        sizes = ", ".join(
            f"{name} {one.people:,} people ({int(one.mated.sum()):,} mated probes)"
            for name, one in found.items()
        )
        several = sum(
            len(one.templates) - len(np.unique(one.subjects)) for one in galleries.values()
        )
        finding = identified(
            origin,
            "1:N",
            f"{len(rows):,} probe templates; {sizes}",
            {
                "probes": len(rows),
                "galleries": {
                    name: {"templates": len(one.templates), "further_lines": one.repeated}
                    for name, one in galleries.items()
                },
                "convention": self.convention,
            },
            found,
            self.convention,
            averaged=len(found) > 1,
        )
        strangers = np.setdiff1d(
            probes.subjects, np.concatenate([one.subjects for one in galleries.values()])
        )
        unmated = int(np.isin(probes.subjects, strangers).sum())
        notes = [*finding.notes]
        if unmated:
            notes.append(f"Probes of people in no gallery: {unmated:,}; they are non-mated.")
        if len(self.files.galleries) == 1:
            notes.append(f"There is one gallery, where {origin.name} has two, averaged.")
        if several:
            notes.append(
                f"Gallery templates of people who have another one there: {several:,}; a person's"
                " similarity is that of the best template."
            )
        return replace(
            finding,
            notes=notes + self._remarks(templates),
            definitions={**finding.definitions, "template": self._pooling()},
            kept=KeptSearches(probes.subjects, found),
        )

    def _remarks(self, templates: Templates) -> list[str]:
        """What is missing or odd in the packaging, whichever protocol."""
        files, found = self.files, []
        if files.pairs is None:
            found.append("There is no list of template pairs: 1:1 is not measured.")
        if files.probes is None or not files.galleries:
            found.append("There are no lists of a gallery and of probes: 1:N is not measured.")
        if files.repeated:
            found.append(
                f"Lines that name an image of a template again: {files.repeated:,}; each counts."
            )
        empty = int((~templates.rows.any(axis=1)).sum())
        if empty:
            found.append(
                f"Templates whose features cancel: {empty:,}; they are like nothing (similarity 0)."
            )
        return found

    def _pooling(self) -> str:
        weight = (
            "" if self.convention == "opensphere" else ", times the face detector's score of it"
        )
        return (
            "A template's embedding: f(x) + f(x mirrored) of each image, not scaled to unit"
            f" length{weight}; the mean over the images of a medium, the sum over the media, scaled"
            " to unit length. Images are aligned by their five landmarks to 112 x 112, black where"
            " the crop ends."
        )


def open_ijb(root: Path, convention: Convention) -> Ijb:
    """IJB-B or IJB-C in `root`.

    Raises:
        Sf2Error: as `read_ijb`; or a list of pairs without genuine or without impostor pairs.
    """
    files = read_ijb(root)
    if files.pairs is not None:
        genuine = int((files.pairs[:, 2] == 1).sum())
        if genuine in (0, len(files.pairs)):
            missing = "impostor" if genuine else "genuine"
            raise Sf2Error(
                f"--ijb {root}: none of the {len(files.pairs):,} template pairs is {missing}",
                "Verification needs pairs of one person and of two: get the list again.",
            )
    origin = Origin(
        name=files.name,
        protocol=files.name,
        source=root,
        data_sha256=files.data_sha256,
        hashed="the lists' hashes, then each image's name and size",
    )
    return Ijb(origin, files, convention)
