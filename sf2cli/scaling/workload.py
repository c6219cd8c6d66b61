"""What is planned and measured: a head, its number of identities, and the step around it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Storage = Literal["fp32", "bf16"]
VALUE_BYTES: dict[Storage, int] = {"fp32": 4, "bf16": 2}
SOFTMAX_HEADS = ("normface", "cosface", "arcface")
PARTIAL = "partialfc"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeadKind(_Frozen):
    """A head to plan and measure.

    Attributes:
        name: "sphereface2", one of SOFTMAX_HEADS, or PARTIAL: CosFace, on sampled negatives, or
            where the rate is 1 in the published form instead of our own.
        storage: of the weight rows and of the momentum.
        momentum: whether a momentum buffer is kept.
        rate: fraction of the negatives that take part in a step; 1 for all of them.
    """

    name: Literal["sphereface2", "normface", "cosface", "arcface", "partialfc"] = "sphereface2"
    storage: Storage = "fp32"
    momentum: bool = True
    rate: float = Field(1.0, gt=0, le=1)

    @property
    def is_softmax(self) -> bool:
        """Whether the classes compete, so that logits and a dense gradient must be held."""
        return self.name != "sphereface2"

    @property
    def is_published(self) -> bool:
        """Whether it is Partial FC in its published form."""
        return self.name == PARTIAL and self.rate == 1

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        rate = f":{self.rate:g}" if self.rate < 1 else ""
        return f"{self.name}{rate} {self.storage}" + ("" if self.momentum else " no momentum")


class Workload(_Frozen):
    """Everything about a step but the head and its number of identities.

    Attributes:
        batch_size: over all ranks; a multiple of nproc.
        threads: of each rank.
        backbone: a name of the registry, or None to feed the head random features.
    """

    embedding_size: int = Field(512, ge=1)
    batch_size: int = Field(128, ge=1)
    nproc: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    steps: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    backbone: str | None = None
    image_size: int = Field(112, ge=1)


class Point(_Frozen):
    """One measurement: this head with this many identities under this workload."""

    head: HeadKind
    num_ids: int = Field(ge=1)
    workload: Workload

    @property
    def rows(self) -> int:
        """Identities of the largest shard."""
        return -(-self.num_ids // self.workload.nproc)

    @property
    def name(self) -> str:
        """What messages call it."""
        noun = "identity" if self.num_ids == 1 else "identities"
        return f"{self.head.label}, {self.num_ids:,} {noun}"


def parse_against(text: str) -> list[HeadKind]:
    """The softmax heads of `--against cosface,partialfc:0.1`, in fp32 with momentum.

    Raises:
        ValueError: a name or a rate that is none.
    """
    heads = []
    for part in text.split(","):
        name, colon, rate = part.strip().lower().partition(":")
        if name not in (*SOFTMAX_HEADS, PARTIAL) or (colon and name != PARTIAL):
            names = ", ".join((*SOFTMAX_HEADS, PARTIAL))
            raise ValueError(f"expected {names} or {PARTIAL}:RATE, found {part.strip()!r}")
        number = _rate(part, rate) if colon else 1.0
        heads.append(HeadKind.model_validate({"name": name, "rate": number}))
    return heads


def _rate(part: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1:
        raise ValueError(f"expected a rate between 0 and 1, as in {PARTIAL}:0.1, found {part!r}")
    return rate
