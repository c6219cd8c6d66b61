"""`sf2 export`: options in, one call out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sf2cli import console

_PATH = click.Path(path_type=Path)


@click.command("export", short_help="Write a model as ONNX and safetensors.")
@click.argument("model", type=_PATH)
@click.option(
    "--out",
    type=_PATH,
    help="Folder to write.  [default: export in the run folder, MODEL-export beside another model]",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def command(model: Path, out: Path | None, overwrite: bool) -> None:
    """Write MODEL as ONNX and plain safetensors, with a model card and a script that uses it.

    MODEL is a run or model folder, or weights in InsightFace's or opensphere's names. The ONNX
    graph is run beside torch, and refused if the two do not agree.

    \b
    Examples:
      sf2 export runs/att
      sf2 export backbone.pth --out exported/
    """
    from sf2cli.export.run import run_export

    done = run_export(model, out, overwrite=overwrite, argv=sys.argv[1:])
    console.result_text(
        f"{done.folder}: ONNX within {done.difference:.1g} of torch, of the largest feature\n"
        + "\n".join(f"  {name}: {size:,} bytes" for name, size in done.bytes.items())
    )
