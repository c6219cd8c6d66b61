"""What a rank must hold, by arithmetic alone, and how many identities a memory takes.

Per identity at d = 512, fp32: row and momentum 4,096 bytes; a softmax head also holds the row's
gradient (6,144) and a column of logits. Sizes are bytes.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from sf2cli.heads.tile_size import tile_size_for
from sf2cli.scaling.workload import VALUE_BYTES, HeadKind, Workload


@dataclass(frozen=True)
class Platform:
    """Where a head runs, as far as memory goes.

    Attributes:
        process_bytes: Python, torch and its libraries in one rank; the default is what measurement
            shows on Linux with torch 2.13.
        on_cpu: whether tiles are cut to a CPU's caches.
        zero_stage: DeepSpeed's, 0 to 3, for the backbone.
    """

    process_bytes: int = 260 * 2**20
    on_cpu: bool = True
    zero_stage: int = 0


@dataclass(frozen=True)
class BackboneCost:
    """What a backbone costs.

    Attributes:
        parameters: their number.
        activation_bytes: an estimate for one image: the fp32 outputs of all leaf layers, which
            autograd keeps as the inputs of the next.
        forward_flops: of one image; a training step takes three times as many.
    """

    parameters: int
    activation_bytes: int
    forward_flops: int


@dataclass(frozen=True)
class RankMemory:
    """What the rank with the largest shard holds at its peak.

    Attributes:
        weights, momentum: of the shard.
        gradient: of the rows in use, where they are sampled a copy of them, and in Partial FC's
            published form autograd's temporaries; 0 in the one-pass head.
        logits: fp32 [B, rows in use], turned into their gradient in place; in the published form
            only what goes beyond the temporaries, which come later; 0 in the one-pass head.
        tile: buffers of the tile in work.
        features: gathered, and their gradients.
        backbone: parameters, gradients, optimiser state and activations.
        process: the interpreter and its libraries.
    """

    weights: int
    momentum: int
    gradient: int
    logits: int
    tile: int
    features: int
    backbone: int
    process: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


@dataclass(frozen=True)
class Budget:
    """Memory to plan for: `shared` by all ranks of a machine, or of each rank's own device."""

    bytes: int
    shared: bool = True

    def holds(self, memory: RankMemory, nproc: int) -> bool:
        """Whether every rank fits."""
        return memory.total * (nproc if self.shared else 1) <= self.bytes


def bytes_per_identity(head: HeadKind, embedding_size: int, batch_size: int = 0) -> float:
    """What one identity costs over all ranks; a softmax head's logits where a batch is given."""
    row = embedding_size * VALUE_BYTES[head.storage]
    return row * (1 + head.momentum) + head.rate * sum(_working_bytes(head, row, batch_size))


def _working_bytes(head: HeadKind, row: int, batch_size: int) -> tuple[int, int]:
    """What a step needs for an identity in use beside `row` and momentum: gradient and logits."""
    column = 4 * batch_size
    if not head.is_softmax:
        return 0, 0
    if head.is_published:
        # Measured: autograd's peak is five more rows, or one and four columns before they go.
        return 5 * row, max(0, 4 * column - 4 * row)
    return row * (2 if head.rate < 1 else 1), column


def rank_memory(
    head: HeadKind,
    num_ids: int,
    workload: Workload,
    backbone: BackboneCost | None = None,
    platform: Platform = Platform(),
) -> RankMemory:
    """The memory of the rank with the largest shard; `backbone` is None for the head alone."""
    d, batch = workload.embedding_size, workload.batch_size
    rows = -(-num_ids // workload.nproc)
    row = d * VALUE_BYTES[head.storage]
    in_use = math.ceil(rows * head.rate)
    gradient, logits = _working_bytes(head, row, batch)
    return RankMemory(
        weights=rows * row,
        momentum=rows * row * head.momentum,
        gradient=in_use * gradient,
        logits=in_use * logits,
        tile=0
        if head.is_softmax
        # The gradient of its rows, its cosines and theirs, in fp32 at most.
        else min(rows, tile_rows(head, workload, platform)) * 4 * (d + 2 * batch),
        # The batch of all ranks and its gradient; this rank's part of both, before and after.
        features=2 * 4 * d * (batch + 2 * batch // workload.nproc),
        backbone=0 if backbone is None else backbone_bytes(backbone, workload, platform.zero_stage),
        process=platform.process_bytes,
    )


def tile_rows(head: HeadKind, workload: Workload, platform: Platform) -> int:
    """Identities worked on at a time, where products are as fast in the storage's type as hoped."""
    value = VALUE_BYTES[head.storage]
    row = 3 * value * workload.embedding_size
    return tile_size_for(row, 2 * value * workload.batch_size, platform.on_cpu)


def backbone_bytes(cost: BackboneCost, workload: Workload, zero_stage: int) -> int:
    """fp32 parameters, gradients and momentum under ZeRO, and an estimate of the activations.

    DeepSpeed's stages 1 to 3 keep an fp32 copy of the partition that the rank steps.
    """
    kept = 4 * cost.parameters
    part = -(-kept // workload.nproc)
    states = {
        0: 3 * kept,
        1: 2 * kept + 2 * part,
        2: kept + 3 * part,
        3: 4 * part,
    }[zero_stage]
    return states + cost.activation_bytes * (workload.batch_size // workload.nproc)


def largest_ids(
    head: HeadKind,
    workload: Workload,
    budget: Budget,
    backbone: BackboneCost | None = None,
    platform: Platform = Platform(),
) -> int:
    """The most identities that `budget` holds; 0 if not even one."""

    def fits(num_ids: int) -> bool:
        memory = rank_memory(head, num_ids, workload, backbone, platform)
        return budget.holds(memory, workload.nproc)

    if not fits(1):
        return 0
    fitting = 1
    while fits(2 * fitting):
        fitting *= 2
    step = fitting
    while step := step // 2:
        if fits(fitting + step):
            fitting += step
    return fitting
