"""Samples that cannot be read: named, counted over all ranks, and too many of them an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sf2cli import console
from sf2cli.errors import Sf2Error

# Whether something is so on any rank, on every rank.
OnAny = Callable[[bool], bool]
# What every rank has to say, on every rank: `torch.distributed.all_gather_object`, as a function.
Gather = Callable[[Any], list[Any]]


class BadSamples:
    """The damaged samples that this run has met, each counted once however often it is drawn.

    Args:
        limit: how many may be skipped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[int, str] = {}
        self._told: set[int] = set()

    def __len__(self) -> int:
        return len(self._found)

    @property
    def found(self) -> Mapping[int, str]:
        """Sample numbers, and what is wrong with each."""
        return self._found

    @property
    def any_new(self) -> bool:
        """Whether this rank has met some that `join` has not brought to the others."""
        return self._found.keys() != self._told

    def remember(self, found: Mapping[int, str]) -> None:
        """Count what the run met before it was resumed, the same on every rank.

        Raises:
            Sf2Error: more than the limit; it lists them all.
        """
        self._found |= found
        self._told |= found.keys()
        if len(self._found) > self._limit:
            raise self._too_many()

    def add(self, found: Mapping[int, str]) -> None:
        """Count what a batch met: sample numbers, and what is wrong with each.

        Raises:
            Sf2Error: more than the limit; it lists them all.
        """
        new = {sample: what for sample, what in found.items() if sample not in self._found}
        self._found |= new
        if len(self._found) > self._limit:
            raise self._too_many()
        for what in new.values():
            console.warn(f"skipped: {what}", all_ranks=True)

    def join(self, gather: Gather) -> None:
        """Count what all ranks met; collective.

        Raises:
            Sf2Error: more than the limit together; it lists them all.
        """
        for found in gather(self._found):
            self._found |= found
        self._told = set(self._found)
        if len(self._found) > self._limit:
            raise self._too_many()

    def tell(self, epoch: int) -> None:
        """Say at an epoch's end how many there are."""
        if self._found:
            console.info(
                f"epoch {epoch}: {len(self._found)} damaged samples so far, of"
                f" {self._limit} that data.max_bad allows; others were read in their place"
            )

    def _too_many(self) -> Sf2Error:
        listed = [self._found[sample] for sample in sorted(self._found)]
        remedy = "Copy or pack the set again, or skip such samples: --set data.max_bad=N."
        if len(listed) == 1:
            return Sf2Error(listed[0], remedy)
        return Sf2Error(
            f"{len(listed)} damaged samples, where data.max_bad is {self._limit}:\n  "
            + "\n  ".join(listed),
            remedy,
        )
