"""What the compiled kernels are handed: the structs of elementwise.h and one_pass.h.

Whoever fills one in keeps the tensors alive until the call is over.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sf2cli.heads.sphereface2 import SphereFace2


class Targets(NamedTuple):
    """Which samples belong to which row: labels int32 [B] in the numbering of `first`, and the
    derivative of the loss by each sample's own cosine, [B] in the precision of the sums."""

    labels: Tensor
    own_grad: Tensor


class SGDStep(NamedTuple):
    """One step of momentum SGD; `seed` (32 bits) is for the rounding to bfloat16."""

    lr: float
    momentum: float
    weight_decay: float
    seed: int


class Negatives(ctypes.Structure):
    """The arguments of `sf2_negatives`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("cos", "grad", "loss", "push", "cosine", "above")),
        *((name, ctypes.c_void_p) for name in ("labels", "own_grad", "row_weight")),
        *((name, ctypes.c_int64) for name in ("first", "rows", "batch", "stride")),
        *((name, ctypes.c_float) for name in ("bias", "r", "margin", "factor")),
    )


class Update(ctypes.Structure):
    """The arguments of `sf2_update`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "momentum", "grad")),
        *((name, ctypes.c_int64) for name in ("first", "rows", "width")),
        *((name, ctypes.c_float) for name in ("lr", "mu", "decay")),
        ("seed", ctypes.c_uint32),
    )


class Pass(ctypes.Structure):
    """The arguments of `sf2_one_pass`."""

    _fields_ = (
        ("negatives", Negatives),
        ("update", Update),
        *((name, ctypes.c_void_p) for name in ("inputs", "scaled")),
        *((name, ctypes.c_void_p) for name in ("sums", "grad_features", "seconds")),
        *((name, ctypes.c_int64) for name in ("threads", "padded", "only_products")),
    )


def negatives(
    matrices: Sequence[Tensor | None],
    targets: Targets,
    row_weight: Tensor | None,
    first: int,
    shape: Sequence[int],
    bias: Tensor,
    hp: SphereFace2,
) -> Negatives:
    """For `shape` (rows, batch); `matrices` are the six of `Negatives`."""
    rows, batch = shape
    return Negatives(
        *(_pointer(tensor) for tensor in (*matrices, *targets, row_weight)),
        *(first, rows, batch, batch),
        *(bias.item(), hp.r, hp.negative_margin, (1 - hp.lam) / hp.r),
    )


def update(
    weight: Tensor, momentum: Tensor | None, grad: Tensor | None, first: int, step: SGDStep
) -> Update:
    """For rows `first` ..., which `grad` steps."""
    return Update(
        *(_pointer(tensor) for tensor in (weight, momentum, grad)),
        *(first, *weight.shape),
        *(step.lr, step.momentum, step.weight_decay, step.seed),
    )


def _pointer(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()
