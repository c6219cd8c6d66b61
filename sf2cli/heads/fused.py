"""A whole step of a shard in one compiled call, with matrix products of our own.

`tiles.shard_pass` calls a library for its products, which knows nothing of the kernels between
them: rows wait for memory, and tiles have to be large for the calls to be worth it. Here each block
of 128 rows is multiplied, differentiated and stepped while it is in the second-level cache, and the
next one is fetched meanwhile (one_pass.h). AVX2 and AVX-512 only; products in bfloat16 need the
instruction for them.

A thread sums the features' gradient by itself, so scratch memory grows with batch and threads:
1.7 MiB a thread at B = 128, d = 512. Where that comes to more than SCRATCH_BYTES the tiles do the
step, whose products are the better the larger the batch.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from sf2cli.heads import arguments, compiled
from sf2cli.heads.arguments import SGDStep, Targets
from sf2cli.heads.sphereface2 import SphereFace2

PHASES = ("product", "elementwise", "update")
SCRATCH_BYTES = 32 << 20


class Found(NamedTuple):
    """What a step found: the negatives' `sums` [4] float64, as of `Kernels.negatives`; and the
    gradient by the features [B, d] float64, without loss weight and batch mean."""

    sums: Tensor
    grad_features: Tensor


class FusedStep:
    """The step for rows in float32 or bfloat16.

    Attributes:
        products: the type of the matrix products.
        block_rows: that a thread works on at a time.
        seconds: spent by the last thread, which has the most rows, since this was made, by phase.

    Args:
        library: as loaded.
        products: the type of the matrix products.
        panel: columns of an operand that lie together; as the library has it.
    """

    def __init__(self, library: ctypes.CDLL, products: torch.dtype, panel: int) -> None:
        self._library = library
        self.products = products
        self._panel = panel
        self.block_rows: int = library.sf2_block_rows()
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @classmethod
    def of(cls, products: torch.dtype, width: int) -> FusedStep | None:
        """The step with products of that type, float32 or bfloat16, for rows of `width` values;
        None where this machine or their number forbids it.

        Raises:
            BuildError: the library cannot be built here.
        """
        library = compiled.load()
        panel = library.sf2_panel(products == torch.bfloat16)
        return cls(library, products, panel) if panel and width % panel == 0 else None

    def fits(self, batch: int, width: int) -> bool:
        """Whether a step's scratch memory stays within SCRATCH_BYTES."""
        return self.scratch_bytes(batch, width) <= SCRATCH_BYTES

    def scratch_bytes(self, batch: int, width: int) -> int:
        """Scratch memory of all threads for a batch of that size and rows of `width` values."""
        padded = self._padded(batch)
        # The features' gradient in float and in double; cosines, their gradients, and those packed.
        of_batch = padded * width * (4 + 8) + 3 * 4 * self.block_rows * padded
        # Rows, packed rows, their gradient.
        of_rows = 3 * 4 * self.block_rows * width
        return torch.get_num_threads() * (of_batch + of_rows)

    def __call__(
        self,
        weight: Tensor,
        momentum: Tensor | None,
        inputs: Tensor,
        scaled: Tensor,
        targets: Targets,
        start: int,
        bias: Tensor,
        hp: SphereFace2,
        step: SGDStep,
    ) -> Found:
        """Step all of `weight`.

        Args:
            weight: [shard, d] of unit length; stepped in place.
            momentum: [shard, d] of the same type, or None if none is kept.
            inputs: [B, d] unit features of the same type.
            scaled: the same times loss weight over batch size.
            targets: the positives, by rows of `weight`.
            start: the number of the first row, for the rounding's noise.
            bias: scalar.
            hp: the loss.
            step: the settings.
        """
        shape = (len(weight), len(inputs))
        negatives = arguments.negatives((None,) * 6, targets, None, 0, shape, bias, hp)
        update = arguments.update(weight, momentum, None, start, step)
        found, seconds = self._run(negatives, update, weight.dtype, (inputs, scaled), hp)
        for phase, spent in zip(PHASES, seconds.tolist(), strict=True):
            self.seconds[phase] += spent
        return found

    def only_products(self, inputs: Tensor, blocks: int) -> None:
        """A step's products and nothing else, those of one block of rows again and again.

        Args:
            inputs: [B, d] features.
            blocks: how many times, over all threads.
        """
        hp, step = SphereFace2(), SGDStep(lr=0.0, momentum=0.0, weight_decay=0.0, seed=0)
        weight, bias = inputs.new_ones(self.block_rows, inputs.shape[1]), torch.zeros(())
        targets = Targets(torch.zeros(0, dtype=torch.int32), torch.zeros(0))
        shape = (self.block_rows, len(inputs))
        negatives = arguments.negatives((None,) * 6, targets, None, 0, shape, bias, hp)
        update = arguments.update(weight, None, None, 0, step)
        update.rows = blocks * self.block_rows
        self._run(negatives, update, weight.dtype, (inputs, inputs), hp, only_products=True)

    def _run(
        self,
        negatives: arguments.Negatives,
        update: arguments.Update,
        rows: torch.dtype,
        features: tuple[Tensor, Tensor],
        hp: SphereFace2,
        *,
        only_products: bool = False,
    ) -> tuple[Found, Tensor]:
        """What one call found, and its seconds [3] by phase; of the products alone nothing."""
        inputs, scaled = features
        batch, width = inputs.shape
        threads, padded = torch.get_num_threads(), self._padded(batch)
        operands = [
            right_operand(values, self._panel, padded, sum_rows=sum_rows)
            for values, sum_rows in ((inputs, False), (scaled, True))
        ]
        sums = torch.zeros(threads, 4, dtype=torch.float64)
        grad_features = torch.zeros(threads, padded, width, dtype=torch.float64)
        seconds = torch.zeros(len(PHASES), dtype=torch.float64)
        filled = arguments.Pass(
            *(negatives, update),
            *(tensor.data_ptr() for tensor in (*operands, sums, grad_features, seconds)),
            *(threads, padded, only_products),
        )
        types = (rows == torch.bfloat16, self.products == torch.bfloat16)
        full = hp.gradient == "full"
        self._library.sf2_one_pass(ctypes.byref(filled), *types, int(hp.t), full)
        return Found(sums.sum(0), grad_features.sum(0)[:batch]), seconds

    def _padded(self, batch: int) -> int:
        return -(-batch // self._panel) * self._panel


def right_operand(values: Tensor, panel: int, padded: int, *, sum_rows: bool) -> Tensor:
    """Features as the products read them, [columns / panel, depth, panel] units (products.h).

    Args:
        values: [B, d], d a multiple of `panel`.
        panel: columns that lie together.
        padded: rows to fill up to with zeros, a multiple of `panel`.
        sum_rows: whether the sum is over the rows; else it is over d, and the rows are columns.
    """
    width = values.shape[1]
    whole = values.new_zeros(padded, width)
    whole[: len(values)] = values
    unit = 4 // values.element_size()
    if sum_rows:
        units = whole.view(padded // unit, unit, width // panel, panel).permute(2, 0, 3, 1)
    else:
        units = whole.view(padded // panel, panel, width // unit, unit).permute(0, 2, 1, 3)
    return units.contiguous()
