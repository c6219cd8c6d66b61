"""`sf2 head`: options in, one call out."""

from __future__ import annotations

from pathlib import Path

import click

from sf2cli import console


@click.group("head", short_help="Look into the head of a run.")
def command() -> None:
    """Look into the head of a run.

    \b
    Examples:
      sf2 head info runs/att
    \b
    To give it other identities, start a run from it:
      sf2 train RECIPE --deepspeed DS --start-from runs/att
    """


@command.command("info")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--similar",
    type=click.FloatRange(0, 1),
    metavar="COSINE",
    help="List the pairs of identities whose rows are more similar than this, the most similar"
    " first: one person under two names, it may be. Compares all pairs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the tables.")
def info(run: Path, similar: float | None, as_json: bool) -> None:
    """Show K, d, ranges, type, norms and health of the head of RUN, a run or a checkpoint.

    \b
    Examples:
      sf2 head info runs/att
      sf2 head info runs/att/checkpoints/step-00000300 --similar 0.5
    """
    from sf2cli.heads.info import head_info, tables
    from sf2cli.training.checkpoint import find_checkpoint

    found = head_info(find_checkpoint(run, "sf2 head info") / "head", similar)
    if as_json:
        console.result_json(found)
        return
    for table in tables(found):
        console.result_table(table.title, table.columns, table.rows, table.notes)
