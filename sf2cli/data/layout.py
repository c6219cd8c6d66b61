"""Where samples lie in the shards: by their lengths alone."""

from __future__ import annotations

from sf2cli.data.tar_member import BLOCK, END


def sample_key(number: int) -> str:
    """The key of a sample in its tar: its number over all shards."""
    return f"{number:09d}"


class Layout:
    """Adds up the members of the shard that is being filled.

    Args:
        shard_bytes: a shard is closed before it would grow over this; one sample always fits.
    """

    def __init__(self, shard_bytes: int) -> None:
        self._most = shard_bytes - len(END)
        self.members_bytes = 0

    @property
    def bytes(self) -> int:
        """Length of the shard, were it closed now."""
        return self.members_bytes + len(END)

    def add(self, label_bytes: int, image_bytes: int) -> int | None:
        """Add a sample; the offset of its image's bytes. None where it belongs into the next
        shard, which takes it after `start_shard`."""
        image = image_bytes + -image_bytes % BLOCK
        grown = self.members_bytes + 2 * BLOCK + label_bytes + -label_bytes % BLOCK + image
        if grown > self._most and self.members_bytes:
            return None
        self.members_bytes = grown
        return grown - image

    def start_shard(self) -> None:
        """Begin with an empty shard."""
        self.members_bytes = 0
