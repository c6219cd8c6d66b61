"""The images of a source, checked and in the form they are stored in, by all cores."""

from __future__ import annotations

from collections.abc import Iterator
from pickle import PickleBuffer
from typing import Any, NamedTuple

from sf2cli.data.encode import Colour, StoredImage, stored_form
from sf2cli.data.images import BadImageError
from sf2cli.data.listing import Plan
from sf2cli.data.sources.source import Source, SourceImage
from sf2cli.data.workers import Share

# Images a piece, and the bytes after which a part of it is handed over.
BATCH = 64
_PART_BYTES = 1 << 20


class CheckedImage(NamedTuple):
    """An image by its name in reports: what to store, or where it lies and why it is bad."""

    key: str
    stored: StoredImage | None
    place: str = ""
    reason: str = ""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The bytes out of band, so that a process takes them over without a copy; and flat, which
        # is a third of the work.
        if self.stored is None:
            return CheckedImage, tuple(self)
        data, *rest = self.stored
        return _checked, (self.key, PickleBuffer(data), *rest)


def _checked(key: str, *stored: Any) -> CheckedImage:
    return CheckedImage(key, StoredImage(*stored))


def check_image(image: SourceImage, size: int | None, colour: Colour | None) -> CheckedImage:
    """Read an image and give it the form it is stored in."""
    try:
        return CheckedImage(image.key, stored_form(image.read(), size, colour))
    except BadImageError as failure:
        return CheckedImage(image.key, None, image.place, str(failure))


def checking(
    source: Source, plan: Plan, size: int | None, colour: Colour | None
) -> Share[list[CheckedImage]]:
    """The work of checking all images that a plan has left, in its order."""

    def share(worker: int, workers: int) -> Iterator[tuple[bool, list[CheckedImage]]]:
        part, length, in_piece = list[CheckedImage](), 0, False
        for place, count, images in _stretches(source, plan):
            if place // BATCH % workers != worker:
                continue
            in_piece = True
            for image in images:
                if length > _PART_BYTES:
                    yield True, part
                    part, length = [], 0
                checked = check_image(image, size, colour)
                part.append(checked)
                length += len(checked.stored.data) if checked.stored else 0
            if (place + count) % BATCH == 0:
                yield False, part
                part, length, in_piece = [], 0, False
        if in_piece:
            yield False, part

    return share


def _stretches(source: Source, plan: Plan) -> Iterator[tuple[int, int, Iterator[SourceImage]]]:
    """All images left, in runs within one identity and one piece: place, number, images."""
    place = 0
    for i, identity in enumerate(plan.listing.identities(source)):
        at, end = plan.begin(i), len(identity.images)
        while at < end:
            count = min(end - at, BATCH - place % BATCH)
            yield place, count, identity.images.between(at, at + count)
            place += count
            at += count
