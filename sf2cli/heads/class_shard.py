"""What every head has whose identities are cut over the ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from sf2cli.heads.partition import Partition
from sf2cli.heads.ranks import Ranks


class ClassShard(nn.Module):
    """A head of K classes of which this rank owns one contiguous range, the rows of `weight`.

    Args:
        num_classes: K, over all ranks.
        embedding_size: d.
        group: the ranks to cut over; default all, or this process alone where torch.distributed
            is not initialised.

    Raises:
        ValueError: a size below 1.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    products: torch.dtype

    def __init__(
        self, num_classes: int, embedding_size: int, group: dist.ProcessGroup | None
    ) -> None:
        super().__init__()
        if embedding_size < 1:
            raise ValueError(f"embedding_size is {embedding_size}; expected 1 or more")
        self.embedding_size = embedding_size
        self.ranks = Ranks.of(group)
        self.partition = Partition(num_classes, self.ranks.size)

    @property
    def num_classes(self) -> int:
        """K, over all ranks."""
        return self.partition.num_classes

    @property
    def rows(self) -> int:
        """How many classes this rank owns."""
        return self.partition.size(self.ranks.rank)

    @property
    def start(self) -> int:
        """The first class id of this rank."""
        return self.partition.start(self.ranks.rank)

    @property
    def stop(self) -> int:
        """One past the last class id of this rank."""
        return self.partition.stop(self.ranks.rank)
