"""`sf2 eval`: options in, one call out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sf2cli import console
from sf2cli.commands.model_options import model_options
from sf2cli.commands.protocol_options import protocol_options

_PATH = click.Path(path_type=Path)


@click.command("eval", short_help="Evaluate a model on held-out identities.")
@click.argument("model", type=_PATH)
@click.option(
    "--set",
    "sets",
    type=_PATH,
    multiple=True,
    metavar="PACKED",
    help="A packed set of identities the model was not trained on: all its pairs.",
)
@click.option(
    "--bin",
    "bins",
    type=_PATH,
    multiple=True,
    metavar="FILE.bin",
    help="An InsightFace verification set, such as lfw.bin.",
)
@click.option(
    "--pairs",
    "lists",
    type=_PATH,
    multiple=True,
    metavar="LIST",
    help="A text file of `path1 path2 0|1` lines, 1 for one identity; or LFW's, CALFW's or CPLFW's"
    " list, or CFP's folder Protocol/Split/FP or FF.",
)
@click.option(
    "--images",
    "roots",
    type=_PATH,
    multiple=True,
    metavar="ROOT",
    help="The folder that the paths of --pairs start in; once for all lists, or once for each.",
)
@click.option(
    "--out",
    type=_PATH,
    help="Report folder.  [default: eval in the run folder, MODEL-eval beside a model folder]",
)
@protocol_options
@model_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
@click.option("--cache/--no-cache", "cached", default=True, help="Keep embeddings and reuse them.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the tables.")
def command(
    model: Path,
    sets: tuple[Path, ...],
    bins: tuple[Path, ...],
    lists: tuple[Path, ...],
    roots: tuple[Path, ...],
    identified: tuple[Path, ...],
    identify_seed: int,
    ijbs: tuple[Path, ...],
    megafaces: tuple[Path, ...],
    combined: bool,
    convention: Any,
    out: Path | None,
    overwrite: bool,
    cached: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Evaluate MODEL, a run or model folder, on pairs of faces, beside the raw pixels.

    Gives EER, AUC, accuracy over ten folds and TAR at FAR for every --set, --bin and --pairs, all
    of which may be repeated, and writes report.json and report.html: plots, the best and worst
    pairs, and the definition of each number. Images are resized to the model's input, not
    aligned.

    \b
    Examples:
      sf2 eval runs/att --set shards/att-test
      sf2 eval runs/mine --bin lfw.bin --bin agedb_30.bin --out reports/mine
      sf2 eval runs/mine --pairs pairs.txt --images lfw/
      sf2 eval runs/mine --bin lfw.bin --bin agedb_30.bin --bin calfw.bin --bin cplfw.bin --combined
      sf2 eval runs/mine --ijb IJBC --megaface megaface --identify shards/test
    """
    if not (sets or bins or lists or identified or ijbs or megafaces):
        raise click.UsageError(
            "Nothing to evaluate on: give --set, --bin or --pairs, --identify, --ijb or --megaface."
        )
    if combined and not (bins or lists):
        raise click.UsageError("--combined pools what --bin and --pairs name: give them.")
    if bool(lists) != bool(roots):
        raise click.UsageError("--pairs LIST and --images ROOT need each other.")
    if len(roots) not in (0, 1, len(lists)):
        raise click.UsageError(
            f"--images: found {len(roots)} for {len(lists)} --pairs, expected one for all or one"
            " for each."
        )
    from sf2cli.evaluation.input_options import InputOptions
    from sf2cli.evaluation.run import Protocols, run

    listed = list(zip(lists, roots if len(roots) > 1 else roots * len(lists), strict=True))
    outcome = run(
        model,
        Protocols(
            sets, bins, listed, identified, identify_seed, ijbs, megafaces, combined, convention
        ),
        said=InputOptions(**said),
        out=out,
        overwrite=overwrite,
        cached=cached,
        argv=sys.argv[1:],
    )
    if as_json:
        console.result_json(outcome.document)
    else:
        for table in outcome.tables:
            console.result_table(table.title, table.columns, table.rows, table.notes)
    console.info(f"report: {outcome.page}")
