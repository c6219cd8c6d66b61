"""Templates: many images of one person, from several media, as one embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Templates:
    """`ids` int64 [T], ascending; `rows` float32 [T, d], of unit length (zeros where the features
    cancel); `images` and `media`: how many there are of each [T]."""

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    images: NDArray[np.int64]
    media: NDArray[np.int64]

    def places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in `ids` each of the given ones stands; -1 where it does not."""
        at = np.searchsorted(self.ids, ids).clip(max=max(len(self.ids) - 1, 0))
        if not len(self.ids):
            return np.full(len(ids), -1)
        return np.where(self.ids[at] == ids, at, -1)


def pool(
    features: NDArray[np.float32],
    templates: NDArray[np.int64],
    media: NDArray[np.int64],
    weights: NDArray[np.floating] | None = None,
) -> Templates:
    """A template's embedding: the sum over its media of the mean of their images, to unit length.

    Args:
        features: f(x) + f(x mirrored) of each image [n, d], not scaled to unit length: a poor image
            has a short feature.
        templates: id of the template of each image [n].
        media: id of its medium, such as a video [n]; images of one template and medium are averaged
            first, so that a long video does not outvote a photo.
        weights: of each image [n], such as the face detector's score; None weighs all alike.

    Raises:
        ValueError: lengths that differ, or features that are not finite.

    Source: InsightFace recognition/arcface_torch/eval_ijbc.py (image2template_feature).
    """
    if not len(features) == len(templates) == len(media):
        raise ValueError(
            f"{len(features)} features, {len(templates)} templates, {len(media)} media"
        )
    order = np.lexsort((media, templates))
    template, medium = templates[order], media[order]
    fresh_template = np.append(True, template[1:] != template[:-1])[: len(order)]
    fresh_medium = fresh_template | np.append(True, medium[1:] != medium[:-1])[: len(order)]
    starts = np.flatnonzero(fresh_medium)
    sizes = np.diff(np.append(starts, len(order)))
    # The template that each medium belongs to.
    owner = np.cumsum(fresh_template)[starts] - 1
    ids = template[fresh_template]
    rows = np.zeros((len(ids), features.shape[1]))
    for k, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        chosen = order[start : start + size]
        part = features[chosen].astype(np.float64)
        if weights is not None:
            part *= np.asarray(weights)[chosen, None]
        rows[owner[k]] += part.sum(axis=0) / size
    if not np.isfinite(rows).all():
        raise ValueError("a feature or weight is not finite")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms == 0, 1, norms)
    return Templates(
        ids=ids,
        rows=rows.astype(np.float32),
        images=np.bincount(np.cumsum(fresh_template) - 1, minlength=len(ids)),
        media=np.bincount(owner, minlength=len(ids)),
    )
