"""What a run says before its first step."""

from __future__ import annotations

import os
import socket
from collections import defaultdict

import torch.distributed as dist

from sf2cli import console
from sf2cli.data.loader import TrainLoader
from sf2cli.data.packed import PackedSet
from sf2cli.heads.sharded_softmax import ShardedSoftmaxHead
from sf2cli.training.engine import TrainingEngine
from sf2cli.training.forward import slow_precision
from sf2cli.training.restore import Settings, Start
from sf2cli.training.world import World


def tell_origin(start: Start, total: int, resume: bool) -> None:
    """Where a run of `total` steps goes on from."""
    if start.checkpoint:
        console.info(f"going on from {start.checkpoint} (step {start.step} of {total})")
    elif resume:
        console.info("no checkpoint was written yet: starting over")


def tell_run(start: Start, settings: Settings, loader: TrainLoader) -> None:
    """What is trained on what, and how the head is kept."""
    recipe, ds_config = settings.recipe, settings.ds_config
    if loader.wrong_labels:
        console.info(f"label noise: {loader.wrong_labels:.2%} of the labels are wrong")
    console.info(
        f"{_size(settings.packed)}, {settings.total_steps} steps of {recipe.batch_size} on"
        f" {dist.get_world_size()} rank(s), ZeRO"
        f" {ds_config.get('zero_optimization', {}).get('stage', 0)}, {recipe.precision};"
        f" {_describe(start.engine)}"
    )
    if (slow := slow_precision(recipe.precision, start.engine.head.weight.device)) is not None:
        console.warn(slow)


def crowding(world: World, workers: int) -> str | None:
    """What to tell where a host has fewer cores than loader processes; collective.

    Args:
        workers: loader processes of each rank.
    """
    if not workers:
        return None
    ranks: dict[str, int] = defaultdict(int)
    cores: dict[str, set[int]] = defaultdict(set)
    # A scheduler may give each rank cores of its own.
    for host, own in world.gather((socket.gethostname(), os.sched_getaffinity(0))):
        ranks[host] += 1
        cores[host] |= own
    host = min(ranks, key=lambda name: len(cores[name]) / ranks[name])
    count, room = ranks[host], len(cores[host])
    if count * workers <= room:
        return None
    of_all = f", {count * workers} for the {count} ranks on {host}," if count > 1 else ""
    return (
        f"data.workers: {workers} processes a rank{of_all} where there are {room} cores; fewer are"
        " likely faster"
    )


def _size(packed: PackedSet) -> str:
    return f"{packed.manifest.num_identities} identities, {len(packed)} images"


def _describe(engine: TrainingEngine) -> str:
    """How the head is kept and computed, and what changes in it, in a few words."""
    head = engine.head
    if isinstance(head, ShardedSoftmaxHead):
        classes = "all" if head.sample_rate == 1 else f"{head.sample_rate:.3g} of the"
        centres = head.hp.sub_centres
        several = f"{centres} sub-centres, " if centres > 1 else ""
        return f"head: {head.hp.kind}, {several}{classes} classes"
    rows, products = (str(x).removeprefix("torch.") for x in (head.weight.dtype, head.products))
    negatives = "all" if head.negatives == 1 else f"{head.negatives:.3g} of the"
    kernels = head.kernels.name + (" in one call" if engine.head_in_one_call else "")
    grows = str(engine.head_schedule) or "r and m constant"
    return f"head: {rows} rows, {products} products, {kernels}, {negatives} negatives, {grows}"
