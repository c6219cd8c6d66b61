"""Which rank owns which identities."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    """`num_classes` ids cut into `world_size` contiguous ranges whose sizes differ by at most one.

    The first `num_classes % world_size` ranks own one more; with fewer classes than ranks the last
    ranks own none.

    Raises:
        ValueError: num_classes or world_size below 1.
    """

    num_classes: int
    world_size: int

    def __post_init__(self) -> None:
        for field in ("num_classes", "world_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; expected 1 or more")

    def start(self, rank: int) -> int:
        """The first class id of `rank`."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank is {rank}; expected 0 to {self.world_size - 1}")
        each, longer = divmod(self.num_classes, self.world_size)
        return rank * each + min(rank, longer)

    def stop(self, rank: int) -> int:
        """One past the last class id of `rank`."""
        return self.start(rank) + self.size(rank)

    def size(self, rank: int) -> int:
        """How many classes `rank` owns."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank is {rank}; expected 0 to {self.world_size - 1}")
        each, longer = divmod(self.num_classes, self.world_size)
        return each + (rank < longer)
