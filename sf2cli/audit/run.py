"""`sf2 audit` from its options to the written files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli import console
from sf2cli.audit.copies import duplicates, near_duplicates, odd_ones
from sf2cli.audit.finding import Finding
from sf2cli.audit.page import page
from sf2cli.audit.scan import scan
from sf2cli.data.edits import drop_text, merge_text
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.report.write import check_folder, write_files

# Of the AT&T faces a backbone with random weights takes one in eleven for another's.
_MANY_STRANGERS = 0.05
JSON_NAME, PAGE_NAME, DROP_NAME, MERGE_NAME = "audit.json", "audit.html", "drop.txt", "merge.txt"


@dataclass(frozen=True)
class Outcome:
    """The content of audit.json, the rows to print, and where the page is."""

    document: dict[str, Any]
    rows: list[tuple[str, int, int]]
    page: Path


def audit(
    folder: Path,
    out: Path | None,
    *,
    min_images: int,
    model: Path | None,
    against: Path | None,
    one_person_from: float | None,
    overwrite: bool,
) -> Outcome:
    """Look through a packed set, and write audit.json, audit.html, drop.txt and merge.txt.

    Args:
        folder: the packed set.
        out: where to write; made if it is not there. None is FOLDER-audit beside the set.
        min_images: an identity with fewer is listed.
        model: a model or run folder that judges looks; None leaves that out.
        against: a packed set to compare with; None leaves that out.
        one_person_from: the cosine of two identities' means; None asks the set itself.
        overwrite: whether an earlier audit there may be replaced.

    Raises:
        Sf2Error: no set, no model, or no place to write.
    """
    packed = PackedSet.open(folder)
    out = out or _beside(folder)
    other = PackedSet.open(against) if against else None
    check_folder(out, (JSON_NAME, PAGE_NAME, DROP_NAME, MERGE_NAME), overwrite=overwrite)
    seen = scan(packed)
    owners, groups = packed.labels, list[list[int]]()
    by_looks: list[Finding] = []
    threshold = one_person_from
    if model and seen.unreadable:
        raise Sf2Error(
            f"--model {model}: it cannot look at {len(seen.unreadable)} images that cannot be read,"
            f" first {packed.source(min(seen.unreadable))}",
            "Audit without --model, pack the set anew with that drop.txt, then ask the model.",
        )
    if model:
        # Only here: the model needs torch.
        from sf2cli.audit.people import looks, not_themselves, one_person, threshold_of

        found = looks(packed, model)
        threshold = threshold_of(found) if threshold is None else threshold
        same, groups = one_person(found, threshold)
        leaders = np.arange(packed.manifest.num_identities)
        for group in groups:
            leaders[group] = group[0]
        owners = leaders[packed.labels]
        by_looks = [same, not_themselves(found, owners)]
        _warn_of_weak(model, len(by_looks[1].entries), len(packed))
    findings = [
        *duplicates(packed, seen, owners),
        *near_duplicates(packed, seen, owners),
        *by_looks,
    ]
    if other:
        from sf2cli.audit.overlap import overlap, shared_people

        findings += overlap(packed, seen, other, scan(other))
        if model and threshold is not None:
            findings.append(shared_people(found, looks(other, model), threshold))
    findings += odd_ones(packed, seen, min_images)
    return _write(packed, out, findings, groups, model, other, threshold)


def _each_line_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with the lines that they add to drop.txt, so that their numbers are its own."""
    written: set[str] = set()
    fresh = []
    for one in findings:
        lines = [line for line in dict.fromkeys(one.drop) if line not in written]
        written.update(lines)
        fresh.append(replace(one, drop=lines))
    return fresh


def _warn_of_weak(model: Path, strangers: int, images: int) -> None:
    if strangers > _MANY_STRANGERS * images:
        console.warn(
            f"to --model {model} {strangers} of {images} images look more like another identity"
            " than like their own: either as many are mislabelled, or the model was hardly trained"
            " or on other pictures; look at audit.html before you use its lists"
        )


def _beside(folder: Path) -> Path:
    # Not inside: a packed set holds the set's files alone.
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}-audit")


def _write(
    packed: PackedSet,
    out: Path,
    findings: Sequence[Finding],
    groups: Sequence[Sequence[int]],
    model: Path | None,
    other: PackedSet | None,
    threshold: float | None,
) -> Outcome:
    names, findings = packed.manifest.identities, _each_line_once(findings)
    document = {
        "set": packed.manifest.name,
        "images": len(packed),
        "identities": packed.manifest.num_identities,
        "model": str(model) if model else None,
        "one_person_from": threshold if model else None,
        "against": other.manifest.name if other else None,
        "counts": {one.name: len(one.entries) for one in findings},
        **{one.name: [entry.content for entry in one.entries] for one in findings},
    }
    sentence = (
        f"{len(packed):,} images of {packed.manifest.num_identities:,} identities"
        + (f", judged by the model {model}" if model else "; no model was asked")
        + (f", beside {other.manifest.name}" if other else "")
        + f". drop.txt and merge.txt are for `sf2 pack {packed.manifest.name} OUT --drop drop.txt"
        " --merge merge.txt`; read them before."
    )
    files = {
        JSON_NAME: json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        PAGE_NAME: page(f"Audit of {packed.manifest.name}", sentence, findings),
        DROP_NAME: drop_text({one.title: one.drop for one in findings}),
        MERGE_NAME: merge_text([[names[label] for label in group] for group in groups]),
    }
    write_files(out, files)
    rows = [(one.title, len(one.entries), len(one.drop)) for one in findings]
    return Outcome(document, rows, out / PAGE_NAME)
