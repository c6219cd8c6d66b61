"""The few collectives a head needs, which are nothing at all in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sf2cli.errors import Sf2Error

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that share a head. `group` is None for a process by itself."""

    rank: int
    size: int
    group: dist.ProcessGroup | None

    @staticmethod
    def of(group: dist.ProcessGroup | None) -> Ranks:
        """The ranks of `group`, by default of all processes that torch.distributed has joined."""
        if group is None and dist.is_available() and dist.is_initialized():
            group = dist.group.WORLD
        if group is None:
            return Ranks(0, 1, None)
        return Ranks(dist.get_rank(group), dist.get_world_size(group), group)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows [n, ...] of every rank, [size * n, ...] in the order of the ranks."""
        if self.size == 1:
            return rows
        every = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(every, rows.contiguous(), group=self.group)
        return every

    def sum_(self, values: Tensor) -> Tensor:
        """The sum over the ranks, in place; the same bits on every rank."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def max_(self, values: Tensor) -> Tensor:
        """The largest over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def sum_and_scatter(self, rows: Tensor, totals: Tensor | None = None) -> Tensor:
        """This rank's n rows of the sum over the ranks of `rows` [size * n, ...].

        Every rank sends every other its part, which is as many bytes as a reduce-scatter sends and
        has room for sums of scalars: of a step's time with few identities, collectives of a few
        bytes are the larger part. The addends are taken in the order of the ranks.

        Args:
            rows: float32 or float64.
            totals: [k] float64, summed over the ranks in place; the same bits on every rank.
        """
        if self.size == 1:
            return rows
        parts = rows.reshape(self.size, -1)
        width = parts.shape[1]
        if totals is not None:
            bits = totals.view(rows.dtype).expand(self.size, -1)
            parts = torch.cat((parts, bits), dim=1)
        received = torch.empty_like(parts)
        dist.all_to_all_single(received, parts.contiguous(), group=self.group)
        if totals is not None:
            torch.sum(received[:, width:].contiguous().view(totals.dtype), dim=0, out=totals)
        return received[:, :width].sum(0).view(-1, *rows.shape[1:])

    def collect(self, value: object) -> list[object]:
        """Every rank's small picklable value, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def agree(self, value: T) -> T:
        """The first rank's small picklable value, on every rank."""
        agreed: T = self.collect(value)[0]  # type: ignore[assignment]
        return agreed

    def raise_together(self, failure: Sf2Error | None) -> None:
        """Raise the first failure of any rank on every rank, so that none is left waiting."""
        for found in self.collect(failure and (type(failure), failure.message, failure.remedy)):
            if isinstance(found, tuple):
                kind, message, remedy = found
                raise kind(message, remedy)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block, without collectives, of which every rank raises what fails on any."""
        failure = None
        try:
            yield
        except Sf2Error as problem:
            failure = problem
        self.raise_together(failure)
