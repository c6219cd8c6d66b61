"""From a source of images to packed sets: list, check every image, drop, split, write."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.data.count import CountingWriter
from sf2cli.data.fill import fill
from sf2cli.data.journal import Journal, Tally, progress_in
from sf2cli.data.listing import Listing, Plan, list_source, split
from sf2cli.data.pack_options import PackedFolder, PackOptions, PackReport
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.data.sources.source import Source
from sf2cli.data.staging import clear_stage, stage_of, staged
from sf2cli.data.unchanged import check_unchanged
from sf2cli.data.writer import SetWriter
from sf2cli.errors import Sf2Error

# What webdataset reads as braces to expand or as a protocol, and what JSON or a report cannot show.
_UNFIT_NAME = re.compile(r"^\.|[\\{}:\x00-\x1f\x7f\ud800-\udfff]|^$")
# The bytes of what is encoded anew are theirs.
_ENCODERS = ("sf2", "pillow", "simplejpeg")


def pack(
    source: str, out: Path, options: PackOptions, reading: SourceOptions | None = None
) -> PackReport:
    """Pack `source` into `out`, or into `out`-train and `out`-test with a holdout.

    The sets appear whole at the end, or not at all; shards that were finished before an
    interruption or on a full disk are kept beside `out` for the next call.

    Args:
        source: what `find_source` takes.
        out: the set's folder, whose last component is its name.
        options: how to pack.
        reading: what is said of the source.

    Raises:
        Sf2Error: whatever the user must mend: source, images, options, disk.
    """
    started_ns = time.time_ns()
    targets = _targets(out, options)
    found = find_source(source, reading or SourceOptions())
    for place in found.places:
        _check_apart(place, targets)
    try:
        if options.restart:
            for target in targets:
                clear_stage(target)
        with staged(targets, options.overwrite, progress_in) as folders:
            listing, parts = _listed(found, options)
            with ExitStack() as stack:
                writers = []
                for folder, target in zip(folders, targets, strict=True):
                    packing = {
                        "started_ns": started_ns,
                        **_packing(found, options, listing, target.name),
                    }
                    journal = Journal(folder.parent, packing)
                    if journal.finished:
                        journal.check_shards(folder)
                        check_unchanged(found.places, journal.started_ns, folder.parent)
                        console.info(f"going on after {progress_in(folder.parent)} of {target}")
                    writer = SetWriter(folder, target.name, options.shard_bytes, journal)
                    writers.append(stack.enter_context(writer))
                tallies = [writer.tally for writer in writers]
                plan = Plan(listing, parts, tuple(tally.row for tally in tallies))
                _check_skipped(tallies, options)
                fill(found, plan, options, writers)
                for writer, target in zip(writers, targets, strict=True):
                    _check_some(target, writer.samples)
                for writer in writers:
                    writer.settle(listing.images)
                report = _report(listing, tallies)
                for part, (writer, target) in enumerate(zip(writers, targets, strict=True)):
                    writer.finish(_made_by(found, options, report, part))
                    report.sets.append(_packed_folder(target, writer))
    except OSError as failure:
        raise _write_error(failure, out, targets) from None
    return report


def dry_run(
    source: str, out: Path, options: PackOptions, reading: SourceOptions | None = None
) -> PackReport:
    """What `pack` would report: every image is checked, and nothing written.

    Raises:
        Sf2Error: as `pack`, but for what concerns writing.
    """
    targets = _targets(out, options)
    found = find_source(source, reading or SourceOptions())
    listing, parts = _listed(found, options)
    writers = [CountingWriter(options.shard_bytes) for _ in targets]
    fill(found, Plan(listing, parts, (0,) * len(targets)), options, writers)
    report = _report(listing, [writer.tally for writer in writers])
    for target, one in zip(targets, writers, strict=True):
        _check_some(target, one.images)
        one.settle()
        counts = one.identities, one.images, one.shards, one.bytes
        report.sets.append(PackedFolder(str(target), *counts))
    return report


def _listed(source: Source, options: PackOptions) -> tuple[Listing, bytes]:
    listing = list_source(source, options.min_images)
    if listing.faults and options.on_bad == "fail":
        raise listing.faults[0].error
    return listing, split(listing, options.holdout, options.holdout_seed)


def _targets(out: Path, options: PackOptions) -> list[Path]:
    if _UNFIT_NAME.search(out.name):
        raise Sf2Error(
            f"OUT {out}: a set cannot be called {out.name!r}",
            "Choose a name without \\ { } : and control characters, and no dot in front.",
        )
    if options.holdout is None:
        return [out]
    return [out.with_name(f"{out.name}-train"), out.with_name(f"{out.name}-test")]


def _check_apart(root: Path, targets: list[Path]) -> None:
    """A set inside its own source would be listed by the next packing, or replace the source."""
    source = Path(os.path.realpath(root))
    for target in targets:
        place = Path(os.path.realpath(target))
        if source.is_relative_to(place) or place.is_relative_to(source):
            raise Sf2Error(
                f"OUT {target} and SOURCE {root}: one lies within the other",
                "Choose an OUT outside SOURCE.",
            )


def _packing(source: Source, options: PackOptions, listing: Listing, name: str) -> dict[str, Any]:
    """What must be the same for another run to go on with a packing."""
    return {
        "name": name,
        "source": source.description,
        # A packing that met nothing bad may go on with either, see `_check_skipped`.
        "options": {flag: v for flag, v in options.as_flags().items() if flag != "--on-bad"},
        "split": [options.holdout, options.holdout_seed],
        "list of images": f"{listing.images} of {len(listing.names)}, {listing.digest}",
        "versions": {package: version(package) for package in _ENCODERS},
    }


def _check_skipped(tallies: Sequence[Tally], options: PackOptions) -> None:
    """With --on-bad fail, a packing that skipped an image would not have come so far."""
    skipped = [one for tally in tallies for one in tally.skipped]
    if skipped and options.on_bad == "fail":
        first = min(skipped)
        raise Sf2Error(
            f"{first.source}: {first.reason}", "Leave --on-bad fail out to skip it, or --restart."
        )


def _report(listing: Listing, tallies: Sequence[Tally]) -> PackReport:
    """What was left out, in the order of the source."""
    skipped = sorted(one for tally in tallies for one in tally.skipped)
    dropped = sorted(one for tally in tallies for one in tally.dropped)
    return PackReport(
        skipped=[
            *({"source": fault.source, "reason": fault.error.message} for fault in listing.faults),
            *({"source": one.source, "reason": one.reason} for one in skipped),
        ],
        dropped=[
            {"identity": one.identity, "images": one.images} for one in (*listing.dropped, *dropped)
        ],
        ignored_files=listing.ignored,
    )


def _check_some(target: Path, images: int) -> None:
    if not images:
        raise Sf2Error(
            f"OUT {target}: no identity is left for it: all had too few images that can be read",
            "See what is wrong with the first image with --on-bad fail.",
        )


def _made_by(source: Source, options: PackOptions, report: PackReport, part: int) -> dict[str, Any]:
    made_by: dict[str, Any] = {
        "tool": "sf2 pack",
        "version": version("sf2"),
        "source": source.description,
        "alignment": getattr(source, "alignment", "as in the source"),
        "options": options.recorded(),
        "skipped": report.skipped,
        "dropped": report.dropped,
        "ignored_files": report.ignored_files,
    }
    if options.holdout is not None:
        made_by["split"] = {
            "part": ("train", "test")[part],
            "holdout": options.holdout,
            "seed": options.holdout_seed,
        }
    return made_by


def _packed_folder(target: Path, writer: SetWriter) -> PackedFolder:
    tally = writer.tally
    return PackedFolder(
        str(target), len(tally.identities), writer.samples, len(tally.shards), tally.bytes
    )


def _write_error(failure: OSError, out: Path, targets: Sequence[Path]) -> Sf2Error:
    if failure.errno not in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {failure.filename}" if failure.filename else ""
        return Sf2Error(f"OUT {out}: cannot be written{where} ({failure.strerror})")
    kept = any(progress_in(stage_of(target)) for target in targets)
    return Sf2Error(
        f"OUT {out}: the disk is full; "
        + ("finished shards were kept" if kept else "nothing was kept"),
        "Free some space and give the same command again to go on."
        if kept
        else "Free some space, choose another OUT, or make the images smaller with --size.",
    )
