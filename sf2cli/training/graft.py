"""Starting from a trained run on another set of identities."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sf2cli import console
from sf2cli.data.bad_samples import BadSamples
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error, in_short, why
from sf2cli.files import file_sha256
from sf2cli.heads.initial import derived_seed
from sf2cli.heads.manifest import MANIFEST, HeadManifest, check_files, read_head_manifest
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.ranks import Ranks
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from sf2cli.heads.surgery import Graft, graft_head, random_rows
from sf2cli.recipe import Recipe, StartRecipe
from sf2cli.training.checkpoint import BACKBONE, find_checkpoint, read_state, read_tensors
from sf2cli.training.engine import TrainingEngine, new_backbone
from sf2cli.training.mean_rows import mean_rows
from sf2cli.training.restore import Settings, Start
from sf2cli.training.world import World


def grafted_start(settings: Settings, world: World) -> Start:
    """An engine at step 0 with the backbone and the rows of the run that `recipe.start` names.

    Collective. What it did is said in one line: rows carried, merged, new, and dropped.

    Raises:
        Sf2Error: the run cannot be read, or has another backbone; raised on every rank.
    """
    recipe, packed = settings.recipe, settings.packed
    start = recipe.start
    assert start is not None
    with Ranks.of(None).together():
        checkpoint = find_checkpoint(start.run, "start.run")
        backbone, frozen = _backbones(checkpoint, recipe)
        manifest = read_head_manifest(checkpoint / "head")
        graft = _plan(checkpoint, manifest, start, packed)
    classes = packed.manifest.num_identities
    engine = TrainingEngine(
        recipe, backbone, settings.ds_config, world, classes, settings.total_steps
    )
    head, optimizer, problem = engine.head, engine.head_optimizer, None
    bad = BadSamples(recipe.data.max_bad)
    if not isinstance(head, ShardedHead) or not isinstance(optimizer, HeadSGD):
        raise Sf2Error(
            f"start.run: the recipe's loss is {recipe.head.loss}, whose classes compete",
            "Start with head.loss sphereface2: only its classifiers stand each for itself.",
        )
    try:
        check_files(checkpoint / "head", manifest)
        # Not the seed of an earlier head, whose rows began where these would.
        origin = int(file_sha256(checkpoint / "head" / MANIFEST)[:14], 16)
        new_rows = random_rows(head.embedding_size, derived_seed(recipe.seed, origin))
        if start.new_identities == "mean":
            new_rows = mean_rows(packed, frozen.to(world.device).eval(), recipe.data, bad)
        graft_head(
            checkpoint / "head",
            manifest,
            graft,
            head,
            optimizer,
            new_rows,
            keep_momentum=start.momentum == "keep",
        )
    except Sf2Error as failure:
        problem = failure
    head.ranks.raise_together(problem)
    bad.join(world.gather)
    console.info(
        f"started from {checkpoint}: {graft}; bias {manifest.bias:.3f}, for"
        f" {head.num_classes} identities {head.bias.item():.3f}"
    )
    if not len(graft.carried) and not len(graft.merged):
        console.warn(
            f"{start.run} and {packed.title} have no identity's name in common: the run starts"
            " with that backbone and rows that are all new; start.renamed says who is who"
        )
    return Start(engine, bad_samples=dict(bad.found))


def _backbones(checkpoint: Path, recipe: Recipe) -> tuple[nn.Module, nn.Module]:
    """The backbone to train on, and one that stays as it was."""
    weights = read_tensors(checkpoint, BACKBONE, read_state(checkpoint))
    found = new_backbone(recipe), new_backbone(recipe)
    try:
        for module in found:
            module.load_state_dict(weights)
    except RuntimeError as failure:
        raise Sf2Error(
            f"start.run: {checkpoint} is not of this recipe's backbone ({in_short(failure)})",
            "Take the backbone section and image size from that run's recipe.yaml.",
        ) from None
    return found


def check_start(start: StartRecipe, packed: PackedSet) -> None:
    """Find out before a rank is started whether `start` can be done; reads no row.

    Raises:
        Sf2Error: no checkpoint there, a head without names, or a `renamed` file of no use.
    """
    checkpoint = find_checkpoint(start.run, "start.run")
    _plan(checkpoint, read_head_manifest(checkpoint / "head"), start, packed)


def _plan(checkpoint: Path, manifest: HeadManifest, start: StartRecipe, packed: PackedSet) -> Graft:
    if not isinstance(manifest.loss, SphereFace2):
        raise Sf2Error(
            f"start.run: {checkpoint} has a {manifest.loss.kind} head, whose classes compete",
            "Start from a run of SphereFace2: only its classifiers stand each for itself.",
        )
    if manifest.identities is None:
        raise Sf2Error(f"{checkpoint / 'head' / MANIFEST}: holds no names of identities")
    renamed = _read_renamed(start.renamed) if start.renamed else {}
    return Graft.of(manifest.identities, packed.manifest.identities, renamed)


def _read_renamed(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"start.renamed {path}: cannot be read ({why(failure)})") from None
    renamed: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        old, tab, new = line.partition("\t")
        if not tab or not old or not new or "\t" in new:
            raise Sf2Error(
                f"start.renamed {path}, line {number}: expected OLD, one tab, NEW; found {line!r}"
            )
        if old in renamed:
            raise Sf2Error(f"start.renamed {path}, line {number}: {old!r} was given a name before")
        renamed[old] = new
    return renamed
