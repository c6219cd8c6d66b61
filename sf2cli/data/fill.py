"""From checked images to the writers of sets: skip the bad, drop identities with too few."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Protocol

from sf2cli import console
from sf2cli.data.check import BATCH, CheckedImage, checking
from sf2cli.data.encode import StoredImage
from sf2cli.data.journal import Dropped, Skipped
from sf2cli.data.listing import Plan
from sf2cli.data.pack_options import PackOptions
from sf2cli.data.sources.source import Source
from sf2cli.data.workers import Workers
from sf2cli.errors import Sf2Error


class Writer(Protocol):
    """One of the sets that are filled; see `SetWriter`."""

    def add_identity(self, name: str, row: int) -> None: ...

    def add_image(self, image: StoredImage, source: str, row: int) -> None: ...

    def skip(self, image: Skipped) -> None: ...

    def drop(self, identity: Dropped) -> None: ...


def fill(source: Source, plan: Plan, options: PackOptions, writers: Sequence[Writer]) -> None:
    """Check all images that `plan` has left and give them to the writers of their sets.

    Raises:
        Sf2Error: an image is bad and `options` say to fail, or as the source does.
        OSError: the disk is full.
    """
    left = plan.images
    # A process for less than a piece of work would have none.
    workers = min(options.workers, -(-left // BATCH) or 1)
    share = checking(source, plan, options.size, options.colour)
    starts = plan.listing.starts
    # The processes are forked before there is a thread that draws progress.
    with Workers(workers, share) as pool, console.progress("pack", left, unit="images") as line:
        images = _shown(pool.results(), line)
        for i, name in enumerate(plan.listing.names):
            begin = plan.begin(i)
            rows = range(starts[i] + begin, starts[i + 1])
            if rows:
                writer = writers[plan.parts[i]]
                good = _good(rows, images, writer, options.on_bad == "fail")
                _write(good, writer, name, rows.start, 0 if begin else options.min_images)


def _write(
    good: Iterator[tuple[int, CheckedImage]], writer: Writer, name: str, row: int, least: int
) -> None:
    """Write one identity, or drop it if it has fewer than `least` images; with 0 it goes on."""
    if least:
        # Held over several parts, of which only the last still has its bytes.
        first = [(row, _owned(image)) for row, image in islice(good, least)]
        if len(first) < least:
            writer.drop(Dropped(row, name, len(first)))
            return
        writer.add_identity(name, row)
        good = chain(first, good)
    for row, image in good:
        if image.stored is not None:
            writer.add_image(image.stored, image.key, row)


def _owned(image: CheckedImage) -> CheckedImage:
    """The image with bytes of its own."""
    if image.stored is None:
        return image
    return image._replace(stored=image.stored._replace(data=bytes(image.stored.data)))


def _good(
    rows: range, images: Iterator[CheckedImage], writer: Writer, fail: bool
) -> Iterator[tuple[int, CheckedImage]]:
    # Rows first: at their end no image is taken.
    for row, image in zip(rows, images, strict=False):
        if image.stored is not None:
            yield row, image
        elif fail:
            raise Sf2Error(
                f"{image.place}: {image.reason}",
                "Remove or mend it, or leave --on-bad fail out to skip it.",
            )
        else:
            writer.skip(Skipped(row, image.key, image.reason))


def _shown(
    parts: Iterator[list[CheckedImage]], line: console.ProgressLine
) -> Iterator[CheckedImage]:
    """The images one by one, while their number, rate and the bad ones are shown."""
    started = time.monotonic()
    done = bad = 0
    for part in parts:
        done += len(part)
        bad += sum(image.stored is None for image in part)
        elapsed = time.monotonic() - started
        notes: dict[str, object] = {"skipped": bad} if bad else {}
        if elapsed > 1:
            notes["rate"] = f"{done / elapsed:.0f}/s"
        line.advance(len(part), **notes)
        yield from part
