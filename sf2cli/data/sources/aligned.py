"""Any source, with its faces aligned by a file of landmarks or by a detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.align import NAME, align, is_aligned
from sf2cli.data.detect import Detector
from sf2cli.data.images import BadImageError, decode_image, encode_png, read_header
from sf2cli.data.landmarks import Landmarks, load_landmarks
from sf2cli.data.sources.source import Source, SourceIdentity, SourceImage
from sf2cli.errors import Sf2Error

NoFace = Literal["fail", "drop", "keep"]
_NAMED = 10
_OPTION = "--no-face drop leaves them out, --no-face keep keeps them as they are."


class AlignedSource:
    """The faces of `source` at 112 x 112; those that are aligned already keep their bytes.

    Args:
        source: what is aligned.
        by: a file of landmarks, or `mtcnn`.
        no_face: what an image without landmarks does.
    """

    def __init__(self, source: Source, by: str, no_face: NoFace) -> None:
        self._source, self._by, self._no_face = source, by, no_face
        self._landmarks = None if by == "mtcnn" else load_landmarks(Path(by))
        self._without: list[str] | None = None
        # Of the identities with images without landmarks, the positions of the others.
        self._with: dict[str, list[int]] = {}

    @property
    def description(self) -> dict[str, Any]:
        return {**self._source.description, "aligned": self.alignment["landmarks"]}

    @property
    def places(self) -> list[Path]:
        return [*self._source.places, *([] if self._by == "mtcnn" else [Path(self._by)])]

    @property
    def alignment(self) -> dict[str, Any]:
        """What the manifest says of it; `no_face` names the images without landmarks."""
        return {
            "template": NAME,
            "landmarks": "mtcnn" if self._by == "mtcnn" else Path(self._by).name,
            "no_face": {"rule": self._no_face, "images": self._without or []},
        }

    def identities(self) -> Iterator[SourceIdentity]:
        """See `Source.identities`.

        Raises:
            Sf2Error: an image has no landmarks, and that is to fail; or none has.
        """
        if self._landmarks is None:
            self._landmarks = _detected(self._source)
        if self._without is None:
            self._without = self._look(self._landmarks)
        return map(self._identity, self._source.identities())

    def _look(self, landmarks: Landmarks) -> list[str]:
        """The images without landmarks."""
        without: list[str] = []
        images = 0
        with console.progress("find landmarks", None, unit="images") as line:
            for identity in self._source.identities():
                keys = [image.key for image in identity.images]
                lacking = [_found(landmarks, identity.name, key) is None for key in keys]
                if any(lacking):
                    without += compress(keys, lacking)
                    self._with[identity.name] = [i for i, lacks in enumerate(lacking) if not lacks]
                images += len(keys)
                line.advance(len(keys))
        if len(without) == images:
            raise Sf2Error(
                f"--align {self._by}: none of the {images} images has landmarks; an image is"
                f" called {without[0] if without else ''!r}, the first landmarks are of"
                f" {landmarks.first()!r}",
                "Name the images in the file by identity/file, as SOURCE does.",
            )
        if without and self._no_face == "fail":
            raise Sf2Error(
                f"--align {self._by}: {len(without)} of {images} images have no face, first"
                f" {without[0]}",
                _OPTION,
            )
        if without:
            done = "dropped" if self._no_face == "drop" else "kept as they are"
            listed = "".join(f"\n  {key}" for key in without[:_NAMED])
            console.warn(f"{len(without)} images have no face and are {done}:{listed}")
        return without

    def _identity(self, identity: SourceIdentity) -> SourceIdentity:
        assert self._landmarks is not None
        landmarks, images = self._landmarks, identity.images
        if self._no_face == "drop" and identity.name in self._with:
            images = images.chosen(self._with[identity.name])

        def aligned(image: SourceImage) -> SourceImage:
            return SourceImage(
                image.key, image.place, lambda: _aligned(landmarks, identity.name, image)
            )

        return replace(identity, images=images.changed(aligned))


def _found(landmarks: Landmarks, identity: str, key: str) -> NDArray[np.float64] | None:
    return landmarks.find(key, key.removeprefix(f"{identity}/"))


def _aligned(landmarks: Landmarks, identity: str, image: SourceImage) -> bytes:
    data = image.read()
    points = _found(landmarks, identity, image.key)
    if points is None:
        return data
    header = read_header(data)
    try:
        if is_aligned(header.height, header.width, points):
            return data
        return encode_png(align(decode_image(data, 1 if header.grey else 3), points))
    except ValueError as failure:
        raise BadImageError(str(failure)) from None


def _detected(source: Source) -> Landmarks:
    """The landmarks of every image of a source, by the detector."""
    detector, landmarks = Detector(), Landmarks()
    with console.progress("detect faces", None, unit="images") as line:
        for identity in source.identities():
            for image in identity.images:
                try:
                    points = detector.landmarks(decode_image(image.read(), 3))
                except BadImageError:
                    # The packing tells of it.
                    points = None
                landmarks.add(image.key, None if points is None else points.ravel().tolist())
                line.advance()
    return landmarks
