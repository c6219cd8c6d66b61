"""What a sharded head asks of a batch before its first large collective, agreed by all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from sf2cli.errors import Sf2Error
from sf2cli.heads.ranks import Ranks


def require_batch(
    ranks: Ranks, features: Tensor, labels: Tensor, embedding_size: int, device: torch.device
) -> None:
    """Agree that every rank holds features [B, d] and labels [B] that can be gathered; collective.

    Args:
        device: where the ranks' collectives work.

    Raises:
        ValueError: shapes or types that do not fit, on any rank; raised on every rank.
    """
    rows = features.shape[0] if features.ndim else 0
    fits = features.ndim == 2 and features.shape[1] == embedding_size
    fits = fits and features.is_floating_point()
    ids_fit = labels.dtype == torch.int64 and labels.shape == (rows,)
    found = ranks.gather(torch.tensor([[rows, fits, ids_fit]], device=device)).tolist()
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


def gather_labels(ranks: Ranks, labels: Tensor, num_classes: int, device: torch.device) -> Tensor:
    """The class ids of every rank's batch, [global B] int64 on `device`; collective.

    Raises:
        Sf2Error: an id outside [0, num_classes) on any rank; raised on every rank.
    """
    ids = ranks.gather(labels.to(device))
    wrong = ids[(ids < 0) | (ids >= num_classes)]
    if len(wrong):
        raise Sf2Error(
            f"label {wrong[0].item()} in the batch; a head of {num_classes} identities"
            f" takes 0 to {num_classes - 1}",
            "Give the head as many identities as the training set has, or pack the set again.",
        )
    return ids
