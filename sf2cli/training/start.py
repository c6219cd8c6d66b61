"""From the command line to a run: check everything first, then start ranks or be one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sf2cli import console
from sf2cli.data.packed import PackedSet
from sf2cli.data.training_set import open_training_set
from sf2cli.errors import Sf2Error, in_short
from sf2cli.head_recipe import SoftmaxRecipe
from sf2cli.processes import end_with_parent, ended_by_ctrl_c
from sf2cli.recipe import Recipe, load_recipe
from sf2cli.training.ds_config import fill_ds_config, load_ds_config
from sf2cli.training.hosts import launch_on_hosts, read_hostfile
from sf2cli.training.launch import LOST_RANK, launch_ranks
from sf2cli.training.place import Place, read_place
from sf2cli.training.recipe_changes import recipe_changes
from sf2cli.training.run_folder import RunFolder

# Set in the ranks that --nproc starts, which see the same command line as their parent.
_LAUNCHED = "SF2_LAUNCHED"


def train(
    recipe_path: Path,
    ds_path: Path,
    *,
    nproc: int | None,
    hostfile: Path | None,
    timeout_s: float,
    out: Path | None,
    resume: bool,
    accept_changed_shards: bool,
    overrides: tuple[str, ...],
    argv: Sequence[str],
) -> dict[str, Any] | None:
    """Run `sf2 train`; the summary on the first rank, None elsewhere.

    What can be wrong with recipe, ds.json and packed set is found before a rank is started or a
    file written. The parent of `--nproc` ends with its ranks' exit status.

    Raises:
        Sf2Error: what the user must mend.
    """
    recipe = load_recipe(recipe_path, overrides)
    ds_config = load_ds_config(ds_path)
    launched = _LAUNCHED in os.environ
    place = read_place(os.environ)
    if nproc and place and not launched:
        raise Sf2Error(
            f"--nproc {nproc} under a launcher that already made this rank {place.rank} of"
            f" {place.world_size}",
            "Leave out --nproc, or start sf2 without the launcher.",
        )
    slots = sum(read_hostfile(hostfile).values()) if hostfile else None
    world_size = slots or nproc or (place.world_size if place else 1)
    filled, packed = check_inputs(recipe, ds_config, ds_path, world_size)
    folder = out or Path("runs") / recipe.name
    if not launched or (place and place.rank == 0):
        _check_folder(folder, resume)
        if resume:
            recipe_changes(folder / "recipe.yaml", recipe, begun=True)
    # Late: a wrong recipe should not wait for it.
    with ended_by_ctrl_c():
        import torch  # noqa: F401
    if not launched or (place and place.rank == 0):
        if recipe.start and not resume:
            from sf2cli.training.graft import check_start

            check_start(recipe.start, packed)
        _check_watching(recipe)
    if hostfile:
        _check_backbone(recipe, filled)
        sys.exit(launch_on_hosts(hostfile, argv))
    if launched:
        end_with_parent()
    if nproc and nproc > 1 and not launched:
        _check_backbone(recipe, filled)
        os.environ[_LAUNCHED] = "1"
        sys.exit(launch_ranks(nproc, argv))
    if place and place.rank > 0:
        console.silence()
    from sf2cli.training.loop import Run
    from sf2cli.training.stopping import StoppedError
    from sf2cli.training.world import is_lost_rank, join_world, leave_world

    _check_backbone(recipe, filled)
    try:
        world = join_world(place, timeout_s)
        run = Run(folder, recipe, filled, packed, accept_changed_shards=accept_changed_shards)
        summary = run.train(world, resume)
    except StoppedError as stopped:
        if place and place.rank > 0:
            # The first rank says so for all.
            sys.exit(stopped.status)
        raise
    except RuntimeError as failure:
        if not is_lost_rank(failure):
            raise
        if launched:
            # The parent saw which rank ended and why, and says so.
            sys.exit(LOST_RANK)
        raise _lost(place, failure) from None
    finally:
        leave_world()
    return summary if world.rank == 0 else None


def check_inputs(
    recipe: Recipe, ds_config: dict[str, Any], ds_path: Path, world_size: int
) -> tuple[dict[str, Any], PackedSet]:
    """The DeepSpeed configuration filled in for so many ranks, and the training set.

    Raises:
        Sf2Error: what does not fit together, or cannot be read.
    """
    filled = fill_ds_config(ds_config, recipe, world_size, ds_path)
    _check_sampling(recipe, filled)
    return filled, _open_set(recipe)


def _lost(place: Place | None, failure: RuntimeError) -> Sf2Error:
    rank = f"rank {place.rank} of {place.world_size}" if place else "this rank"
    return Sf2Error(
        f"{rank} lost another one: it ended, or its host cannot be reached ({in_short(failure)})",
        "See why, then go on with --resume, on the hosts that are left if need be.",
    )


def _check_sampling(recipe: Recipe, filled: dict[str, Any]) -> None:
    accumulation, clipping = filled["gradient_accumulation_steps"], filled["gradient_clipping"]
    if isinstance(recipe.head, SoftmaxRecipe):
        field, share = "sample_rate", recipe.head.sample_rate
    else:
        said = recipe.head.negatives
        field, share = "negatives", 1.0 if said == "all" else said
    if share == 1:
        return
    for found, wanted in (
        (f"gradient_accumulation_steps is {accumulation} in ds.json", accumulation > 1),
        (f"gradient_clipping is {clipping} in ds.json", clipping > 0),
        ("precision is fp16", recipe.precision == "fp16"),
    ):
        if wanted:
            raise Sf2Error(
                f"head.{field} is {share:g} in the recipe and {found}: a sample of the classes"
                " is stepped in the pass that draws it",
                "Train on all of them, or go without the other.",
            )


def _open_set(recipe: Recipe) -> PackedSet:
    data = recipe.data
    packed = open_training_set(
        data.shards, data.cache, int(data.cache_gb * 1e9), data.shuffle_shards
    )
    if len(packed) < recipe.batch_size:
        raise Sf2Error(
            f"batch_size {recipe.batch_size} is more than the {len(packed)} images of"
            f" {data.shards}",
            "Lower batch_size in the recipe.",
        )
    return packed


def _check_folder(folder: Path, resume: bool) -> None:
    run = RunFolder(folder)
    has_run = run.metrics.exists()
    if not resume:
        run.require_no_results()
    # torchrun starts the same command again on the hosts that are left, so its first start says
    # --resume as well.
    if resume and not has_run and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise Sf2Error(f"--resume: no run in {folder}", "Start it without --resume.")
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        why = "may not be written to" if above.is_dir() else "is not a folder"
        raise Sf2Error(f"run folder {folder}: {above} {why}", "Choose another with --out.")
    if folder.is_dir() and not has_run:
        _check_empty(run)


def _check_empty(run: RunFolder) -> None:
    """A run that was ended before its first step may have left its settings and what watches it."""
    strange = run.strange
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise Sf2Error(
            f"run folder {run.path}: holds {strange[0]}{more} and no run",
            "Choose a new or an empty folder with --out.",
        )


def _check_watching(recipe: Recipe) -> None:
    from sf2cli.training.sinks import check_watch

    check_watch(recipe.watch)
    if recipe.validation:
        from sf2cli.training.validation import open_sets

        open_sets(recipe.validation)


def _check_backbone(recipe: Recipe, filled: dict[str, Any]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    from sf2cli.training.engine import new_backbone

    normed = any(isinstance(module, _BatchNorm) for module in new_backbone(recipe).modules())
    if normed and filled["train_micro_batch_size_per_gpu"] == 1:
        raise Sf2Error(
            f"batch_size {recipe.batch_size} leaves 1 image a rank and step; the BatchNorm of"
            f" {recipe.backbone.name} needs 2",
            "Raise batch_size, or take fewer ranks or accumulation steps.",
        )
