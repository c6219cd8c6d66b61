"""Where samples lie in the shards: by their lengths alone."""

from __future__ import annotations

from sf2cli.data.tar_member import BLOCK, END, member_bytes


def sample_key(number: int) -> str:
    """The key of a sample in its tar: its number over all shards."""
    return f"{number:09d}"


class Layout:
    """Adds up the members of the shard that is being filled.

    Args:
        shard_bytes: a shard is closed before it would grow over this; one sample always fits.
    """

    def __init__(self, shard_bytes: int) -> None:
        self._limit = shard_bytes
        self.members_bytes = 0

    @property
    def bytes(self) -> int:
        """Length of the shard, were it closed now."""
        return self.members_bytes + len(END)

    def is_full(self, label_bytes: int, image_bytes: int) -> bool:
        """Whether a sample of these lengths belongs into the next shard."""
        added = member_bytes(label_bytes) + member_bytes(image_bytes)
        return self.members_bytes > 0 and self.bytes + added > self._limit

    def add(self, label_bytes: int, image_bytes: int) -> int:
        """Add a sample; the offset of its image's bytes."""
        offset = self.members_bytes + member_bytes(label_bytes) + BLOCK
        self.members_bytes += member_bytes(label_bytes) + member_bytes(image_bytes)
        return offset

    def start_shard(self) -> None:
        """Begin with an empty shard."""
        self.members_bytes = 0
