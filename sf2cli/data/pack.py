"""From a source of images to packed sets: check every image, drop, split, write."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from sf2cli import console
from sf2cli.data.encode import Colour, StoredImage, stored_form
from sf2cli.data.images import BadImageError
from sf2cli.data.order import epoch_order
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.data.sources.source import Source, SourceIdentity
from sf2cli.data.staging import staged
from sf2cli.data.writer import SetWriter
from sf2cli.errors import Sf2Error

# What webdataset reads as braces to expand or as a protocol, and what JSON or a report cannot show.
_UNFIT_NAME = re.compile(r"^\.|[\\{}:\x00-\x1f\x7f\ud800-\udfff]|^$")


@dataclass(frozen=True)
class PackOptions:
    """How to pack; the defaults keep every image as it is.

    Args:
        size: resize to this edge in pixels.
        colour: convert to these colours.
        holdout: this many identities go to a second, identity-disjoint set.
        holdout_seed: draw them; None takes the last ones.
        min_images: identities with fewer good images are dropped.
        on_bad: an unreadable image stops the packing, or is skipped and listed.
        shard_bytes: size that no shard grows over.
        overwrite: replace packed sets that are there.
    """

    size: int | None = None
    colour: Colour | None = None
    holdout: int | None = None
    holdout_seed: int | None = None
    min_images: int = 1
    on_bad: Literal["fail", "skip"] = "fail"
    shard_bytes: int = 256_000_000
    overwrite: bool = False


@dataclass(frozen=True)
class PackedFolder:
    """One set that was written."""

    folder: str
    identities: int
    images: int
    shards: int
    bytes: int


@dataclass
class PackReport:
    """What was packed and what was left out.

    `skipped` has {source, reason} for each unreadable image, `dropped` {identity, images} for each
    identity with too few, `ignored_files` counts files that are no images.
    """

    sets: list[PackedFolder] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    dropped: list[dict[str, str | int]] = field(default_factory=list)
    ignored_files: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def pack(
    source: str, out: Path, options: PackOptions, reading: SourceOptions | None = None
) -> PackReport:
    """Pack `source` into `out`, or into `out`-train and `out`-test with a holdout.

    The sets appear whole at the end, or not at all.

    Args:
        source: what `find_source` takes.
        out: the set's folder, whose last component is its name.
        options: how to pack.
        reading: what is said of the source.

    Raises:
        Sf2Error: whatever the user must mend: source, images, options, disk.
    """
    targets = _targets(out, options)
    found = find_source(source, reading or SourceOptions())
    for place in found.places:
        _check_apart(place, targets)
    try:
        with staged(targets, options.overwrite) as folders:
            report = _Packing(found, options).run(targets, folders)
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Sf2Error(
                f"OUT {out}: the disk is full; nothing was kept",
                "Free some space, choose another OUT, or make the images smaller with --size.",
            ) from None
        where = f" at {failure.filename}" if failure.filename else ""
        raise Sf2Error(f"OUT {out}: cannot be written{where} ({failure.strerror})") from None
    return report


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


class _Packing:
    """One run of `pack`."""

    def __init__(self, source: Source, options: PackOptions) -> None:
        self.source = source
        self.options = options
        self.report = PackReport()

    def run(self, targets: list[Path], folders: list[Path]) -> PackReport:
        images, names = self._list()
        held_out = self._held_out(names)
        kept = set(names)
        with ExitStack() as stack, console.progress("pack", images, unit="images") as line:
            writers = [
                stack.enter_context(SetWriter(folder, target.name, self.options.shard_bytes))
                for folder, target in zip(folders, targets, strict=True)
            ]
            for identity in self.source.identities():
                if identity.name in kept:
                    self._write(identity, writers[identity.name in held_out], line)
            for part, (writer, target) in enumerate(zip(writers, targets, strict=True)):
                self._finish(writer, target, part)
        return self.report

    def _list(self) -> tuple[int, list[str]]:
        """How many images there are to check, and the identities with files enough."""
        images, names = 0, []
        # Called outside the block: a source that must look through a file shows that itself.
        identities = self.source.identities()
        with console.progress("list", None, unit="identities") as line:
            for identity in identities:
                self.report.ignored_files += identity.ignored
                if len(identity.images) >= self.options.min_images:
                    images += len(identity.images)
                    names.append(identity.name)
                    line.advance()
                elif len(identity.images):
                    self._drop(identity.name, len(identity.images))
        if not names:
            raise Sf2Error(
                f"--min-images {self.options.min_images}: no identity has as many images",
                "Lower it, or leave it out.",
            )
        return images, names

    def _held_out(self, names: list[str]) -> set[str]:
        count = self.options.holdout
        if count is None:
            return set()
        if count >= len(names):
            raise Sf2Error(
                f"--holdout {count}: there are only {len(names)} identities, and at least one must"
                " be left to train on",
                f"Hold out at most {len(names) - 1}.",
            )
        seed = self.options.holdout_seed
        if seed is None:
            return set(names[-count:])
        return {names[i] for i in epoch_order(len(names), seed, 0)[:count]}

    def _write(
        self, identity: SourceIdentity, writer: SetWriter, line: console.ProgressLine
    ) -> None:
        """Write one identity, or drop it if too many of its images are bad."""
        images = self._good_images(identity, line)
        first = list(islice(images, self.options.min_images))
        if len(first) < self.options.min_images:
            self._drop(identity.name, len(first))
            return
        writer.add_identity(identity.name)
        for image, key in chain(first, images):
            writer.add_image(image, key)

    def _good_images(
        self, identity: SourceIdentity, line: console.ProgressLine
    ) -> Iterator[tuple[StoredImage, str]]:
        for image in identity.images:
            try:
                stored = stored_form(image.read(), self.options.size, self.options.colour)
            except BadImageError as failure:
                if self.options.on_bad == "fail":
                    raise Sf2Error(
                        f"{image.place}: {failure}", "Remove or mend it, or pass --on-bad skip."
                    ) from None
                self.report.skipped.append({"source": image.key, "reason": str(failure)})
            else:
                yield stored, image.key
            line.advance()

    def _drop(self, name: str, images: int) -> None:
        self.report.dropped.append({"identity": name, "images": images})

    def _finish(self, writer: SetWriter, target: Path, part: int) -> None:
        if not writer.samples:
            raise Sf2Error(
                f"OUT {target}: no identity is left for it; {len(self.report.skipped)} images"
                f" could not be read and {len(self.report.dropped)} identities had too few",
                "See what is wrong with the first of them with --on-bad fail.",
            )
        # The split is told apart, below.
        unlisted = ("overwrite", "holdout", "holdout_seed")
        options = {k: v for k, v in asdict(self.options).items() if k not in unlisted}
        made_by: dict[str, Any] = {
            "tool": "sf2 pack",
            "version": version("sf2"),
            "source": self.source.description,
            "alignment": getattr(self.source, "alignment", "as in the source"),
            "options": options,
            "skipped": self.report.skipped,
            "dropped": self.report.dropped,
            "ignored_files": self.report.ignored_files,
        }
        if self.options.holdout is not None:
            made_by["split"] = {
                "part": ("train", "test")[part],
                "holdout": self.options.holdout,
                "seed": self.options.holdout_seed,
            }
        writer.finish(made_by)
        self.report.sets.append(
            PackedFolder(
                str(target), writer.num_identities, writer.samples, writer.num_shards, writer.bytes
            )
        )
