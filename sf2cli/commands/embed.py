"""`sf2 embed`: options in, one call out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sf2cli import console
from sf2cli.commands.model_options import model_options

_PATH = click.Path(path_type=Path)


@click.command("embed", short_help="Write the embeddings of a set or folder.")
@click.argument("model", type=_PATH)
@click.argument("source", type=_PATH)
@click.argument("out", type=_PATH)
@model_options
@click.option("--overwrite", is_flag=True, help="Replace earlier embeddings in OUT.")
@click.option("--cache/--no-cache", "cached", default=True, help="Keep embeddings and reuse them.")
def command(
    model: Path, source: Path, out: Path, overwrite: bool, cached: bool, **said: Any
) -> None:
    """Embed the images of SOURCE, a packed set or a folder, by MODEL, into the folder OUT.

    Writes embeddings.npy (float32, a row an image, not scaled to unit length), keys.txt (the
    image of each row), embed.json (how they were made), and embeddings.parquet where pyarrow is
    installed. `sf2 eval OUT --set SOURCE` evaluates them. MODEL is whatever `sf2 eval` takes.

    \b
    Examples:
      sf2 embed runs/att shards/att-test embeddings/att
      sf2 embed model.onnx photos/ embeddings/photos --mean 127 --scale 128
    """
    from sf2cli.evaluation.embed_run import run_embed
    from sf2cli.evaluation.input_options import InputOptions

    done = run_embed(
        model,
        source,
        out,
        InputOptions(**said),
        overwrite=overwrite,
        cached=cached,
        argv=sys.argv[1:],
    )
    console.result_text(
        f"{done.folder}: {done.images:,} embeddings of {done.dimensions} dimensions"
        f" ({', '.join(done.files)})"
    )
