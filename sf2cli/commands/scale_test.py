"""`sf2 scale-test`: options in, one call out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sf2cli.scaling.units import parse_bytes, parse_counts


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any, Any, str | None], Any]:
    def callback(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as failure:
            raise click.BadParameter(str(failure)) from None

    return callback


def _against(text: str) -> Any:
    from sf2cli.scaling.workload import parse_against

    return parse_against(text)


@click.command("scale-test", short_help="Plan and measure what N identities cost.")
@click.option("--num-ids", callback=_parsed(parse_counts), help="N identities, or several: N,N,...")
@click.option("--max", "largest", is_flag=True, help="Search the most identities that train here.")
@click.option(
    "--against",
    callback=_parsed(_against),
    metavar="HEADS",
    help="Softmax heads to measure too: cosface, arcface, normface; partialfc, in its published"
    " form; partialfc:RATE, sampled.",
)
@click.option("--nproc", default=1, show_default=True, type=click.IntRange(1, 4096), help="Ranks.")
@click.option(
    "--batch-size",
    default=128,
    show_default=True,
    type=click.IntRange(1, 2**24),
    help="Over all ranks.",
)
@click.option("--embedding-size", default=512, show_default=True, type=click.IntRange(1, 2**16))
@click.option(
    "--storage",
    default="fp32",
    show_default=True,
    type=click.Choice(["fp32", "bf16", "fp32,bf16"]),
    help="Of SphereFace2's weights and momentum; or both, one after the other.",
)
@click.option("--no-momentum", is_flag=True, help="Keep no momentum.")
@click.option(
    "--negatives",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Fraction of the negatives that SphereFace2 draws in a step.",
)
@click.option("--backbone", help="Train it with the head, in plain torch; else the head alone.")
@click.option(
    "--image-size",
    default=112,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the backbone's images.",
)
@click.option(
    "--steps",
    default=5,
    show_default=True,
    type=click.IntRange(min=5),
    help="Timed steps; the two before them do not count.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31))
@click.option(
    "--memory",
    callback=_parsed(parse_bytes),
    metavar="SIZE",
    help="Memory to plan for, as in 23GB.  [default: what is free]",
)
@click.option("--target", help="Plan for a cluster instead: 8xh100, or a machine's FILE.json.")
@click.option("--hosts", type=click.IntRange(1, 100_000), help="Hosts of the target.  [default: 1]")
@click.option(
    "--zero",
    "zero_stage",
    type=click.IntRange(0, 3),
    help="ZeRO stage of the target's backbone.  [default: 0]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Report folder: JSON, CSV and a plot. A run cut off goes on in it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(**given: Any) -> None:
    """Plan what a head of N identities costs, then measure it on this machine.

    First a table: bytes an identity, memory a rank, what fits. What does not fit is refused before
    anything is allocated, with the options that make it fit. Then every head and size is measured
    in fresh processes: median step, peak memory, where the time goes, and how much of the machine's
    own matrix-product rate the head reaches. Counts may be written 100k or 4M.

    \b
    Examples:
      sf2 scale-test --num-ids 1M
      sf2 scale-test --num-ids 100k,400k --storage fp32,bf16 --against cosface,partialfc:0.1
      sf2 scale-test --num-ids 10M --storage bf16 --nproc 2 --memory 23GB --out reports/10m
      sf2 scale-test --num-ids 100k --backbone iresnet50 --batch-size 32
      sf2 scale-test --max --memory 8GB --storage bf16
      sf2 scale-test --num-ids 100M --storage bf16 --target 8xh100 --hosts 4 --batch-size 4096
    """
    from sf2cli.scaling.options import make_options
    from sf2cli.scaling.run import scale_test

    try:
        options = make_options(**given)
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None
    scale_test(options)
