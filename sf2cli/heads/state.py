"""A head on disk: one file of rows a rank, and head.json that ties them together.

    head.json                                    sizes, ranges, hashes, bias, settings, names
    rows-000000000-000005000.safetensors         `weight` and `momentum` of those class ids

The ranges are those of the ranks that saved; any number of ranks loads them, each reading its own
rows. The caller makes the folder whole or absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sf2cli.errors import DamagedError, Sf2Error
from sf2cli.files import write_through
from sf2cli.heads.manifest import (
    MANIFEST,
    HeadManifest,
    OptimizerSettings,
    RowFile,
    check_files,
    read_head_manifest,
    read_range,
)
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.shard_file import write_rows
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.heads.softmax_optimizer import SoftmaxSGD

Head = ShardedHead | ShardedSoftmaxHead
HeadOptimizer = HeadSGD | SoftmaxSGD


@dataclass(frozen=True)
class HeadSnapshot:
    """This rank's part of a head as it stands at a step.

    Attributes:
        start, stop: the class ids of this rank.
        rows: `weight` and, with momentum, `momentum`: [stop - start, row size] each.
        manifest: head.json without its files.
    """

    start: int
    stop: int
    rows: dict[str, Tensor]
    manifest: HeadManifest


class _Outcome(NamedTuple):
    entry: RowFile | None
    failure: str | None


def take_head(
    head: Head, optimizer: HeadOptimizer, identities: list[str] | None = None, *, copy: bool
) -> HeadSnapshot:
    """The head as it stands.

    Args:
        identities: the name of every class id in order, stored with the head; rank 0's are taken.
        copy: into host memory, so that training may go on; else the head's own tensors.

    Raises:
        ValueError: not as many names as classes.
    """
    if identities is not None and len(identities) != head.num_classes:
        raise ValueError(f"{len(identities)} identity names for {head.num_classes} classes")
    manifest = HeadManifest(
        num_classes=head.num_classes,
        embedding_size=head.embedding_size,
        dtype=str(head.weight.dtype).removeprefix("torch."),
        files=[],
        **_scalars(head, optimizer),
        loss=head.hp,
        optimizer=OptimizerSettings(
            lr=optimizer.lr,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            steps=optimizer.steps,
        ),
        identities=identities,
    )
    rows = _row_tensors(head, optimizer)
    if copy:
        rows = {name: tensor.to("cpu", copy=True) for name, tensor in rows.items()}
    return HeadSnapshot(head.start, head.stop, rows, manifest)


def write_head(folder: Path, snapshot: HeadSnapshot, ranks: Ranks) -> int:
    """Write a head into `folder`, which exists; collective over `ranks`, head.json last.

    Returns:
        The bytes that all ranks wrote.

    Raises:
        Sf2Error: a file cannot be written; raised on every rank.
    """
    outcomes = ranks.collect(_write_rows(folder, snapshot))
    files = []
    for outcome in outcomes:
        assert isinstance(outcome, _Outcome)
        if outcome.failure is not None:
            raise Sf2Error(outcome.failure, "Free disk space or choose another folder.")
        if outcome.entry is not None:
            files.append(outcome.entry)
    manifest = snapshot.manifest.model_copy(update={"files": files})
    failure = None
    if ranks.rank == 0:
        path = folder / MANIFEST
        try:
            write_through(path, manifest.model_dump_json(indent=1))
        except OSError as error:
            failure = Sf2Error(f"{path}: cannot be written ({error.strerror})", "Free disk space.")
    ranks.raise_together(failure)
    return sum(manifest.layout(entry).size for entry in files)


def _write_rows(folder: Path, snapshot: HeadSnapshot) -> _Outcome:
    start, stop = snapshot.start, snapshot.stop
    if start == stop:
        return _Outcome(None, None)
    path = folder / f"rows-{start:09d}-{stop:09d}.safetensors"
    try:
        hashes = write_rows(path, snapshot.rows)
    except OSError as error:
        return _Outcome(None, f"{path}: cannot be written ({error.strerror})")
    return _Outcome(RowFile(start=start, stop=stop, file=path.name, sha256=hashes), None)


def _row_tensors(head: Head, optimizer: HeadOptimizer | None) -> dict[str, Tensor]:
    tensors = {"weight": head.weight.data}
    if optimizer is not None and optimizer.weight_momentum is not None:
        tensors["momentum"] = optimizer.weight_momentum
    return tensors


def load_head(folder: Path, head: Head, optimizer: HeadOptimizer | None = None) -> HeadManifest:
    """Fill head, and momentum where an optimizer is given, on any number of ranks; collective.

    Each rank reads and checks the blocks of rows it needs, once. Settings of `head` and
    `optimizer` stay as they are; the returned manifest holds those of the saved head.

    Raises:
        DamagedError: a file is missing, short, changed or foreign, or the head has other sizes;
            raised on every rank. The head may then be filled in part.
        Sf2Error: momentum is kept but was not saved.
    """
    manifest, failure = None, None
    try:
        manifest = read_head_manifest(folder)
        _check_sizes(folder / MANIFEST, manifest, head)
        _check_momentum(folder / MANIFEST, manifest, optimizer)
        check_files(folder, manifest)
        _load_rows(folder, manifest, head, optimizer)
    except Sf2Error as error:
        failure = error
    head.ranks.raise_together(failure)
    assert manifest is not None
    _fill_scalars(head, optimizer, manifest)
    return manifest


def _scalars(head: Head, optimizer: HeadOptimizer) -> dict[str, Any]:
    if isinstance(head, ShardedHead):
        assert isinstance(optimizer, HeadSGD)
        momentum = optimizer.bias_momentum.item()
        return {"bias": head.bias.item(), "bias_momentum": momentum, "norms": None}
    return {"bias": None, "bias_momentum": None, "norms": tuple(head.norms.tolist())}


def _fill_scalars(head: Head, optimizer: HeadOptimizer | None, manifest: HeadManifest) -> None:
    if optimizer is not None:
        optimizer.steps = manifest.optimizer.steps
    if isinstance(head, ShardedHead):
        assert manifest.bias is not None
        head.bias.data.fill_(manifest.bias)
        if isinstance(optimizer, HeadSGD):
            assert manifest.bias_momentum is not None
            optimizer.bias_momentum.fill_(manifest.bias_momentum)
        return
    assert manifest.norms is not None
    head.norms.copy_(head.norms.new_tensor(manifest.norms))
    head.draw = manifest.optimizer.steps


def _check_sizes(path: Path, manifest: HeadManifest, head: Head) -> None:
    for name in ("num_classes", "embedding_size"):
        saved, wanted = getattr(manifest, name), getattr(head, name)
        if saved != wanted:
            raise DamagedError(
                f"{path}: {name} is {saved}, this run's head has {wanted}",
                "Use the training set and the recipe that the head was saved with.",
            )
    if manifest.row_size != head.weight.shape[1]:
        raise DamagedError(
            f"{path}: rows of {manifest.row_size} numbers, this run's head has"
            f" {head.weight.shape[1]}",
            "Set head.sub_centres as in the recipe that the head was saved with.",
        )
    saved_loss, wanted_loss = (type(loss).__name__ for loss in (manifest.loss, head.hp))
    if saved_loss != wanted_loss:
        raise DamagedError(
            f"{path}: its loss is {saved_loss}, this run's is {wanted_loss}",
            "Use the recipe that the head was saved with.",
        )


def _check_momentum(path: Path, manifest: HeadManifest, optimizer: HeadOptimizer | None) -> None:
    wanted = optimizer is not None and optimizer.weight_momentum is not None
    if wanted and not manifest.optimizer.momentum:
        raise Sf2Error(
            f"{path}: saved without momentum, this run keeps it",
            "Set optimizer.momentum to 0, as in the run that saved it.",
        )


def _load_rows(
    folder: Path, manifest: HeadManifest, head: Head, optimizer: HeadOptimizer | None
) -> None:
    if head.rows:
        read_range(folder, manifest, head.start, _row_tensors(head, optimizer))
