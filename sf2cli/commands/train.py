"""`sf2 train`: options in, one call out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sf2cli import console


@click.command("train", short_help="Train a backbone with an identity-sharded head.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--deepspeed",
    "ds_json",
    type=click.Path(path_type=Path),
    required=True,
    help='DeepSpeed\'s JSON file; its "auto" values come from the recipe.',
)
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Start this many ranks on this machine; leave out under torchrun, deepspeed or srun.",
)
@click.option(
    "--hostfile",
    type=click.Path(path_type=Path),
    help="Start ranks on many hosts with DeepSpeed's launcher; lines of HOST slots=N.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds a rank waits for another one before it takes it for lost.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the run's newest whole checkpoint.")
@click.option(
    "--accept-changed-shards",
    is_flag=True,
    help="Go on although the packed set is not what it was; its identities must be.",
)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Begin with the backbone and, by name, the identities of a trained run; as the recipe's"
    " start.run.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override a field of the recipe, as in optimizer.lr=0.05; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    recipe: Path,
    ds_json: Path,
    nproc: int | None,
    hostfile: Path | None,
    timeout_s: float,
    out: Path | None,
    resume: bool,
    accept_changed_shards: bool,
    start_from: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train as RECIPE (YAML) says, the backbone under DeepSpeed ZeRO, the head sharded.

    Every rank owns a contiguous range of the identities. The run folder gets the recipe,
    metrics.jsonl, checkpoints and, at the end, model/ (safetensors + JSON).

    \b
    Examples:
      sf2 train configs/att.yaml --deepspeed configs/ds_zero1.json
      sf2 train configs/att.yaml --deepspeed configs/ds_zero2.json --nproc 2
      sf2 train configs/att.yaml --deepspeed configs/ds_zero1.json --resume
      sf2 train configs/att.yaml --deepspeed configs/ds_zero2.json --hostfile hosts
      sf2 train more.yaml --deepspeed configs/ds_zero1.json --start-from runs/att
      torchrun --nproc-per-node 2 --no-python sf2 train RECIPE --deepspeed DS
      deepspeed --no_python sf2 train RECIPE --deepspeed DS
    """
    from sf2cli.training.start import train

    if nproc and hostfile:
        raise click.UsageError("--nproc and --hostfile both start ranks; give one of them.")
    if start_from:
        # JSON is YAML: a path stays text, whatever it looks like.
        overrides = (*overrides, f"start.run={json.dumps(str(start_from))}")
    summary = train(
        recipe,
        ds_json,
        nproc=nproc,
        hostfile=hostfile,
        timeout_s=timeout_s,
        out=out,
        resume=resume,
        accept_changed_shards=accept_changed_shards,
        overrides=overrides,
        argv=sys.argv[1:],
    )
    if summary is None:
        return
    if as_json:
        console.result_json(summary)
    else:
        loss = "nothing left to do" if summary["loss"] is None else f"loss {summary['loss']:.4f}"
        console.info(
            f"{summary['steps']} steps, {loss}, {summary['images_per_s']:.0f} images/s,"
            f" data wait {summary['data_wait']:.0%}, {summary['seconds']:.0f} s"
        )
        console.info(f"model: {summary['model']}")
