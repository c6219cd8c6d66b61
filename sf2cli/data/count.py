"""Counting what a packing would write, without writing: `sf2 pack --dry-run`."""

from __future__ import annotations

from sf2cli.data.encode import StoredImage
from sf2cli.data.journal import Dropped, Skipped, Tally
from sf2cli.data.layout import Layout


class CountingWriter:
    """Takes what a `SetWriter` takes; adds up identities, images, shards and their bytes."""

    def __init__(self, shard_bytes: int) -> None:
        self.tally = Tally()
        self.identities = self.images = self.shards = self.bytes = 0
        self._layout = Layout(shard_bytes)

    def add_identity(self, name: str, row: int) -> None:
        self.identities += 1

    def add_image(self, image: StoredImage, source: str, row: int) -> None:
        lengths = len(str(self.identities - 1)), len(image.data)
        if self._layout.add(*lengths) is None:
            self._end_shard()
            self._layout.add(*lengths)
        self.images += 1

    def skip(self, image: Skipped) -> None:
        self.tally.skipped.append(image)

    def drop(self, identity: Dropped) -> None:
        self.tally.dropped.append(identity)

    def settle(self) -> None:
        """End the last shard."""
        if self.images:
            self._end_shard()

    def _end_shard(self) -> None:
        self.shards += 1
        self.bytes += self._layout.bytes
        self._layout.start_shard()
