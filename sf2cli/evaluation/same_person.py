"""`sf2 verify`: whether two photos show one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sf2cli import console
from sf2cli.data.align import SIZE, align
from sf2cli.data.detect import Detector
from sf2cli.data.images import BadImageError, decode_image, resize
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.calibration import readings, same_probability
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.scoring import listed_cosines

Aligning = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class Answer:
    """What two photos have in common.

    Args:
        similarity: the cosine of their embeddings.
        threshold: from which on they count as the same; None where nothing gives one.
        same: whether they do.
        probability: that they are, by the trained r and b; None for a loss without.
        aligned: whether each photo was aligned here.
    """

    similarity: float
    threshold: float | None
    same: bool | None
    probability: float | None
    aligned: list[bool]

    def as_json(self) -> dict[str, Any]:
        """The fields by their names."""
        return asdict(self)

    def __str__(self) -> str:
        said = {True: "same person", False: "different people", None: "no threshold is known"}
        lines = [said[self.same]]
        if self.probability is not None:
            lines.append(f"probability that they are the same: {_chance(self.probability)}")
        lines.append(f"similarity {self.similarity:.4f}")
        if self.threshold is not None:
            lines[-1] += f", threshold {self.threshold:.4f}"
        else:
            lines.append("give --threshold, as the EER threshold of a report")
        return "\n".join(lines)


def _chance(probability: float) -> str:
    """In percent; never all or nothing, which no threshold knows."""
    if probability > 0.999:
        return "over 99.9%"
    return "under 0.1%" if probability < 0.001 else f"{probability:.1%}"


@dataclass(frozen=True)
class _Pixels:
    """Photos as they enter, in colour."""

    paths: Sequence[Path]
    images: list[NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.images)

    def decode(self, i: int, image_size: int, channels: int) -> NDArray[np.uint8]:
        return resize(self.images[i], image_size)

    def source(self, i: int) -> str:
        return str(self.paths[i])


def verify(
    model: Path,
    photos: Sequence[Path],
    said: InputOptions,
    *,
    threshold: float | None,
    aligning: Aligning,
) -> Answer:
    """Compare two photos.

    Args:
        model: whatever `open_embedder` takes, but features.
        photos: two files.
        said: what the user says of the model's input.
        threshold: in place of the trained one.
        aligning: `yes` and `no` are meant; `auto` aligns photos that are not of the model's size,
            for a model that was trained on aligned faces.

    Raises:
        Sf2Error: a photo or model that cannot be read, a photo without a face, or `yes` without a
            detector.
    """
    embedder = open_embedder(model, said)
    if embedder.card.kind == "features":
        raise Sf2Error(f"--model {model}: features are no model", "Name what computed them.")
    images, aligned = _prepare(photos, embedder.card, aligning)
    rows = embedder.embed(_Pixels(photos, images), "embed")
    [similarity] = listed_cosines(rows, np.array([0]), np.array([1])).tolist()
    head = embedder.card.head
    if threshold is None:
        trained = readings(head, prior=0.5)
        threshold = trained[0].threshold if trained else None
    return Answer(
        similarity=similarity,
        threshold=threshold,
        same=None if threshold is None else similarity >= threshold,
        probability=same_probability(similarity, head),
        aligned=aligned,
    )


def _prepare(
    photos: Sequence[Path], card: EmbedderCard, aligning: Aligning
) -> tuple[list[NDArray[np.uint8]], list[bool]]:
    """The photos' pixels [h, w, channels], and which of them were aligned."""
    read = [_read(path) for path in photos]
    own = (card.image_size, card.image_size)
    wanted = [
        aligning == "yes"
        or (aligning == "auto" and _aligned_model(card) and image.shape[:2] != own)
        for image in read
    ]
    detector = _detector(aligning) if any(wanted) else None
    images = []
    for path, image, turn in zip(photos, read, wanted, strict=True):
        if turn and detector is not None:
            landmarks = detector.landmarks(image)
            if landmarks is None:
                raise Sf2Error(f"{path}: no face found in it", "Say --no-align to take it whole.")
            image = align(image, landmarks)
        images.append(_grey(image) if card.channels == 1 else image)
    return images, [turn and detector is not None for turn in wanted]


def _detector(aligning: Aligning) -> Detector | None:
    try:
        return Detector()
    except Sf2Error:
        if aligning == "yes":
            raise
        console.warn(
            "the photos are resized and not aligned, for facenet-pytorch, which finds faces, is"
            " not installed: the similarity may mean little"
        )
        return None


def _aligned_model(card: EmbedderCard) -> bool:
    """Whether it was trained on aligned faces: models from elsewhere are, ours say so."""
    if card.kind != "sf2 model":
        return card.image_size == SIZE
    return isinstance(card.training.get("alignment"), dict)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return decode_image(path.read_bytes(), channels=3)
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None
    except BadImageError as failure:
        raise Sf2Error(f"{path}: {failure}", "Name a photo.") from None


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R 601 luma [h, w, 1], rounded as Pillow does."""
    weights = np.array([19595, 38470, 7471])
    grey: NDArray[np.uint8] = ((image @ weights + 0x8000) >> 16).astype(np.uint8)
    return grey[:, :, None]
