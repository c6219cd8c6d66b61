"""The element-wise work on a tile of identities, in torch or compiled; both give the same numbers.

`negatives` turns cosines into gradients, `update` turns weight gradients into new weights. The
matrix products around them are torch's own either way.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli.heads import arguments, compiled, sphereface2
from sf2cli.heads.arguments import SGDStep, Targets
from sf2cli.heads.fused import FusedStep
from sf2cli.heads.rounding import noise, stochastic_bfloat16
from sf2cli.heads.sphereface2 import SphereFace2, g

_COMPILED_EXPONENTS = (1, 2, 3, 4)
_COMPILED_DTYPES = {torch.float32, torch.bfloat16}


class Kernels(Protocol):
    """What a tile pass needs done.

    Attributes:
        name: what does it.
        fused: does all of it for a whole shard at once; None where it is done tile by tile.
    """

    name: str
    fused: FusedStep | None

    def negatives(
        self,
        cos: Tensor,
        grad: Tensor,
        targets: Targets,
        first: int,
        row_weight: Tensor | None,
        bias: Tensor,
        hp: SphereFace2,
    ) -> Tensor:
        """Derivatives by the cosines of rows `first` ..., without loss weight and batch mean.

        Args:
            cos: [k, B].
            grad: [k, B] of the same type; filled, with `own_grad` where a sample is the row's own.
            targets: the positives.
            first: the number of the tile's first row.
            row_weight: [k] factors on the rows' negatives, in the precision of the sums.
            bias: scalar.
            hp: the loss.

        Returns:
            [4, k], summed over the batch's negatives: their loss, its derivative by the bias, the
            cosines, and how many of them are above the boundary r g(cos) + b = 0.
        """

    def update(
        self, weight: Tensor, momentum: Tensor | None, grad: Tensor, first: int, step: SGDStep
    ) -> None:
        """One SGD step on rows `first` ..., in place, after which they have unit length.

        Args:
            weight: [k, d] of unit length; rounded stochastically if bfloat16.
            momentum: [k, d] of the same type, or None if none is kept.
            grad: [k, d] with respect to the unit rows.
            first: the number of the first row, for the rounding's noise.
            step: the settings.
        """


class TorchKernels:
    """The kernels in plain torch, on any device and also in float64."""

    def __init__(self, name: str = "torch") -> None:
        self.name = name
        self.fused: FusedStep | None = None

    def negatives(
        self,
        cos: Tensor,
        grad: Tensor,
        targets: Targets,
        first: int,
        row_weight: Tensor | None,
        bias: Tensor,
        hp: SphereFace2,
    ) -> Tensor:
        rows = torch.arange(first, first + len(cos), device=cos.device)
        own = rows[:, None] == targets.labels
        exact = cos.to(bias.dtype)
        loss, by_cos, push = sphereface2.negatives(exact, bias, hp)
        above = (hp.r * g(exact, hp.t) + bias > 0).to(bias.dtype)
        # Multiplied, not filled: a feature that is not a number must not go unseen.
        counted = (~own).to(bias.dtype)
        if row_weight is not None:
            counted = counted * row_weight[:, None]
        grad.copy_(torch.where(own, targets.own_grad, by_cos * counted))
        return torch.stack([(values * counted).sum(1) for values in (loss, push, exact, above)])

    def update(
        self, weight: Tensor, momentum: Tensor | None, grad: Tensor, first: int, step: SGDStep
    ) -> None:
        exact = torch.promote_types(weight.dtype, torch.float32)
        rows = weight.to(exact)
        moved = grad.to(exact) + step.weight_decay * rows
        if momentum is not None:
            moved += step.momentum * momentum.to(exact)
        rows = F.normalize(rows - step.lr * moved)
        if weight.dtype == torch.bfloat16:
            bits = noise(first, len(weight), weight.shape[1], step.seed, weight.device)
            rows = stochastic_bfloat16(rows, bits & 0xFFFF)
            moved = stochastic_bfloat16(moved, bits >> 16)
        weight.copy_(rows)
        if momentum is not None:
            momentum.copy_(moved)


class TorchCompiledKernels(TorchKernels):
    """The same functions through torch.compile, for devices other than a CPU."""

    def __init__(self) -> None:
        super().__init__("torch.compile")
        self.negatives = torch.compile(super().negatives)  # type: ignore[method-assign]
        self.update = torch.compile(super().update)  # type: ignore[method-assign]


class CppKernels:
    """The kernels of kernels.cpp: float32 and bfloat16 on a CPU, t = 1 ... 4.

    Args:
        fused: see `Kernels`.

    Raises:
        BuildError: they cannot be built here.
    """

    name = "c++"

    def __init__(self, fused: FusedStep | None = None) -> None:
        self._library = compiled.load()
        self.fused = fused

    def negatives(
        self,
        cos: Tensor,
        grad: Tensor,
        targets: Targets,
        first: int,
        row_weight: Tensor | None,
        bias: Tensor,
        hp: SphereFace2,
    ) -> Tensor:
        sums = torch.empty(4, len(cos))
        filled = arguments.negatives(
            (cos, grad, *sums), targets, row_weight, first, cos.shape, bias, hp
        )
        self._library.sf2_negatives(
            ctypes.byref(filled),
            cos.dtype == torch.bfloat16,
            int(hp.t),
            hp.gradient == "full",
        )
        return sums

    def update(
        self, weight: Tensor, momentum: Tensor | None, grad: Tensor, first: int, step: SGDStep
    ) -> None:
        filled = arguments.update(weight, momentum, grad, first, step)
        self._library.sf2_update(
            ctypes.byref(filled), weight.dtype == torch.bfloat16, grad.dtype == torch.bfloat16
        )


def choose_kernels(
    device: torch.device, dtype: torch.dtype, products: torch.dtype, width: int, hp: SphereFace2
) -> Kernels:
    """The fastest kernels for a head on `device`: types of its rows and products, values a row."""
    if device.type != "cpu":
        return TorchCompiledKernels()
    if not {dtype, products} <= _COMPILED_DTYPES or hp.t not in _COMPILED_EXPONENTS:
        return TorchKernels()
    try:
        return CppKernels(FusedStep.of(products, width))
    except compiled.BuildError as failure:
        return TorchKernels(f"torch, slow: {failure}")
