"""`sf2 eval`: options in, one call out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sf2cli import console
from sf2cli.commands.model_options import model_options
from sf2cli.commands.protocol_options import each_once, protocol_options

_PATH = click.Path(path_type=Path)


@click.command("eval", short_help="Evaluate a model on held-out identities.")
@click.argument("models", metavar="MODEL", type=_PATH, nargs=-1, required=True)
@click.option(
    "--set",
    "sets",
    type=_PATH,
    multiple=True,
    metavar="PACKED",
    callback=each_once,
    help="A packed set of identities the model was not trained on: all its pairs.",
)
@click.option(
    "--bin",
    "bins",
    type=_PATH,
    multiple=True,
    metavar="FILE.bin",
    callback=each_once,
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
@click.option(
    "--compare", "comparing", is_flag=True, help="Put several models or reports side by side."
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the tables.")
@click.option(
    "--table", type=click.Choice(["md", "latex"]), help="Print the tables as Markdown or LaTeX."
)
def command(
    models: tuple[Path, ...],
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
    comparing: bool,
    as_json: bool,
    table: str | None,
    **said: Any,
) -> None:
    """Evaluate MODEL on faces: pairs, 1:N, IJB, MegaFace.

    MODEL is a run or model folder of sf2; weights (.safetensors, .pt) in InsightFace's or
    opensphere's names; an ONNX file; or features (.npy, .npz, or what `sf2 embed` wrote).

    Gives EER, AUC, accuracy over ten folds and TAR at FAR for every --set, --bin and --pairs, and
    the numbers of every other protocol, all of which may be repeated, and writes report.json and
    report.html: plots, the best and worst pairs, and the definition of each number. A SphereFace2
    head is also asked for the probability that two images are one identity. Images are resized to
    the model's input, not aligned, but for IJB's. With --compare several models, or reports, are
    put side by side, with intervals of their differences.

    \b
    Examples:
      sf2 eval runs/att --set shards/att-test
      sf2 eval model.onnx --mean 127 --scale 128 --set shards/att-test
      sf2 eval --compare runs/a runs/b --set shards/att-test --out reports/a-b
      sf2 eval runs/mine --bin lfw.bin --bin agedb_30.bin --out reports/mine
      sf2 eval runs/mine --pairs pairs.txt --images lfw/
      sf2 eval runs/mine --bin lfw.bin --bin agedb_30.bin --bin calfw.bin --bin cplfw.bin --combined
      sf2 eval runs/mine --ijb IJBC --megaface megaface --identify shards/test
    """
    if len(models) > 1 and not comparing:
        raise click.UsageError(f"MODEL: found {len(models)}, expected one, or --compare.")
    if as_json and table:
        raise click.UsageError("--json and --table each say what is printed: give one of them.")
    if combined and not (bins or lists):
        raise click.UsageError("--combined pools what --bin and --pairs name: give them.")
    if bool(lists) != bool(roots):
        raise click.UsageError("--pairs LIST and --images ROOT need each other.")
    if len(roots) not in (0, 1, len(lists)):
        raise click.UsageError(
            f"--images: found {len(roots)} for {len(lists)} --pairs, expected one for all or one"
            " for each."
        )
    listed = list(zip(lists, roots if len(roots) > 1 else roots * len(lists), strict=True))
    if len(set(listed)) < len(listed):
        raise click.UsageError("--pairs: a list is named twice with the same images.")
    if not (sets or bins or lists or identified or ijbs or megafaces or comparing):
        raise click.UsageError(
            "Nothing to evaluate on: give --set, --bin or --pairs, --identify, --ijb or --megaface."
        )
    from sf2cli.evaluation.input_options import InputOptions
    from sf2cli.evaluation.run import Protocols, Settings, run, run_comparison

    protocols = Protocols(
        sets, bins, listed, identified, identify_seed, ijbs, megafaces, combined, convention
    )
    settings = Settings(InputOptions(**said), overwrite, cached, sys.argv[1:])
    if comparing:
        outcome = run_comparison(models, protocols, out, settings)
    else:
        outcome = run(models[0], protocols, out, settings)
    if as_json:
        console.result_json(outcome.document)
    elif table:
        console.result_text(outcome.as_text(table))
    else:
        for one in outcome.tables:
            console.result_table(one.title, one.columns, one.rows, one.notes)
    console.info(f"report: {outcome.page}")
