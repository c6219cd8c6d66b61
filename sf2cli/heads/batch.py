"""The batch of all ranks as a sharded head sees it, gathered in one collective.

Whatever a rank brings, every rank has to send a message of the same length. They agree on that
once; afterwards each sends its batch in a message of the agreed length, whose first value says
whether the batch is still of that size, and only where some rank's is not do they agree anew.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.errors import Sf2Error
from sf2cli.heads.ranks import Ranks


class Gathered(NamedTuple):
    """A batch: this rank's features of unit length [B, d], attached to the given ones; those of
    all ranks [global B, d], detached; and all labels [global B] int64."""

    unit: Tensor
    everyone: Tensor
    labels: Tensor


class BatchGathering:
    """Gathers batch after batch.

    Args:
        ranks: those that share the head.
        num_classes: K.
        embedding_size: d.
    """

    def __init__(self, ranks: Ranks, num_classes: int, embedding_size: int) -> None:
        self._ranks = ranks
        self._num_classes = num_classes
        self._embedding_size = embedding_size
        self._agreed = 0

    def __call__(self, features: Tensor, labels: Tensor, like: Tensor) -> Gathered:
        """Gather a batch; collective.

        Args:
            features: [B, d] of this rank, any float type, not normalised; B the same on every rank.
            labels: [B] int64 in [0, K).
            like: has the type and the device of the result, float32 or float64.

        Raises:
            ValueError: shapes or types that do not fit, on any rank; raised on every rank.
            Sf2Error: a label outside [0, K) on any rank; raised on every rank.
        """
        if self._ranks.size > 1 and self._agreed:
            rows, *fits = _described(features, labels, self._embedding_size)
            if rows != self._agreed or not all(fits):
                self._decline(like)
            elif found := self._gather(features, labels, like):
                return found
        require_batch(self._ranks, features, labels, self._embedding_size, like.device)
        self._agreed = len(labels)
        found = self._gather(features, labels, like)
        assert found is not None
        return found

    def _gather(self, features: Tensor, labels: Tensor, like: Tensor) -> Gathered | None:
        """The batch, or None where some rank has declined."""
        unit, labels = F.normalize(features.to(like)), labels.to(like.device)
        if self._ranks.size == 1:
            return Gathered(unit, unit.detach(), require_labels(labels, self._num_classes))
        # The labels go as bits, for a message has one type.
        parts = (unit.new_ones(1), unit.detach().flatten(), labels.contiguous().view(unit.dtype))
        every = self._ranks.gather(torch.cat(parts)).view(self._ranks.size, -1)
        if not every[:, 0].all():
            return None
        values = unit.numel()
        everyone = every[:, 1 : 1 + values].reshape(-1, self._embedding_size)
        ids = every[:, 1 + values :].contiguous().view(torch.int64).flatten()
        return Gathered(unit, everyone, require_labels(ids, self._num_classes))

    def _decline(self, like: Tensor) -> None:
        """Take part in a gathering with a batch that is not of the agreed size."""
        of_label = 8 // like.element_size()
        length = 1 + self._agreed * (self._embedding_size + of_label)
        self._ranks.gather(like.new_zeros(length))


def _described(features: Tensor, labels: Tensor, embedding_size: int) -> tuple[int, bool, bool]:
    """The rows of the features; whether they and the labels fit a head of that d."""
    rows = features.shape[0] if features.ndim else 0
    fits = features.ndim == 2 and features.shape[1] == embedding_size
    return (
        rows,
        fits and features.is_floating_point(),
        labels.dtype == torch.int64 and labels.shape == (rows,),
    )


def require_batch(
    ranks: Ranks, features: Tensor, labels: Tensor, embedding_size: int, device: torch.device
) -> None:
    """Agree that every rank holds features [B, d] and labels [B] that can be gathered; collective.

    Args:
        device: where the ranks' collectives work.

    Raises:
        ValueError: shapes or types that do not fit, on any rank; raised on every rank.
    """
    described = _described(features, labels, embedding_size)
    found = ranks.gather(torch.tensor([described], device=device)).tolist()
    for rank, (_, features_fit, labels_fit) in enumerate(found):
        if not features_fit:
            raise ValueError(
                f"features of rank {rank} are not floats of shape [B, {embedding_size}]"
            )
        if not labels_fit:
            raise ValueError(f"labels of rank {rank} are not int64 of shape [B]")
    batches = [rows for rows, *_ in found]
    if len(set(batches)) > 1 or not batches[0]:
        raise ValueError(
            f"batch sizes of the ranks are {batches}; expected the same on every rank and not 0"
        )


def require_labels(labels: Tensor, num_classes: int) -> Tensor:
    """The labels of all ranks, [global B] int64, as they are.

    Raises:
        Sf2Error: one outside [0, num_classes).
    """
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise Sf2Error(
            f"label {wrong[0].item()} in the batch; a head of {num_classes} identities"
            f" takes 0 to {num_classes - 1}",
            "Give the head as many identities as the training set has, or pack the set again.",
        )
    return labels
