"""What a user asked `sf2 scale-test` for, checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sf2cli.scaling.launch import cores
from sf2cli.scaling.workload import HeadKind, Workload


class Options(BaseModel):
    """The options of the command.

    Attributes:
        num_ids: ascending; empty with `largest`.
        largest: search for the most identities that train.
        heads: SphereFace2 in each storage asked for, then the softmax heads.
        memory: bytes to plan for, or None for what is available.
        out: the report folder, or None to write nothing.
        target, hosts: a cluster to plan for instead of measuring here.
        zero_stage: of the backbone on the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_ids: list[int]
    largest: bool
    heads: list[HeadKind]
    workload: Workload
    memory: int | None = None
    out: Path | None = None
    target: str | None = None
    hosts: int = 1
    zero_stage: int = 0
    as_json: bool = False


def make_options(
    *,
    num_ids: list[int] | None,
    largest: bool,
    storage: str,
    no_momentum: bool,
    negatives: float,
    against: list[HeadKind] | None,
    nproc: int,
    batch_size: int,
    embedding_size: int,
    backbone: str | None,
    image_size: int,
    steps: int,
    seed: int,
    memory: int | None,
    out: Path | None,
    target: str | None,
    hosts: int | None,
    zero_stage: int | None,
    as_json: bool,
) -> Options:
    """The command's options, which must go together.

    Raises:
        ValueError: they contradict one another.
    """
    if (num_ids is None) == (not largest):
        raise ValueError("give either --num-ids N, as in --num-ids 1M or 100k,400k, or --max")
    for flag, value in (("--hosts", hosts), ("--zero", zero_stage)):
        if value is not None and target is None:
            raise ValueError(f"{flag} is of the cluster that --target names, and there is none")
    if target is not None and memory is not None:
        raise ValueError("--memory is of this machine; the memory of --target is its own")
    if zero_stage is not None and backbone is None:
        raise ValueError("--zero is of the backbone, and there is none: add --backbone NAME")
    if target is None and batch_size % nproc:
        raise ValueError(
            f"--batch-size {batch_size} does not divide by --nproc {nproc}: every rank takes the"
            " same number of samples"
        )
    if num_ids and min(num_ids) < nproc and any(head.is_published for head in against or []):
        raise ValueError(
            "--against partialfc: its published form wants an identity a rank, found"
            f" {min(num_ids)} for {nproc} ranks"
        )
    heads = [
        HeadKind.model_validate({"storage": name, "rate": negatives}) for name in storage.split(",")
    ]
    return Options(
        num_ids=sorted(set(num_ids or [])),
        largest=largest,
        heads=[
            head.model_copy(update={"momentum": not no_momentum})
            for head in dict.fromkeys([*heads, *(against or [])])
        ],
        workload=Workload(
            embedding_size=embedding_size,
            batch_size=batch_size,
            nproc=nproc,
            threads=max(1, cores() // nproc),
            steps=steps,
            seed=seed,
            backbone=backbone,
            image_size=image_size,
        ),
        memory=memory,
        out=out,
        target=target,
        hosts=hosts or 1,
        zero_stage=zero_stage or 0,
        as_json=as_json,
    )
