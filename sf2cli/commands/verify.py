"""`sf2 verify`: options in, one call out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sf2cli import console
from sf2cli.commands.model_options import model_options

_PATH = click.Path(path_type=Path)


@click.command("verify", short_help="Say whether two photos show one person.")
@click.argument("photos", metavar="A B", type=_PATH, nargs=2)
@click.option("--model", type=_PATH, required=True, help="Whatever `sf2 eval` takes.")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="The similarity from which on they count as one person.  [default: the trained one]",
)
@click.option(
    "--align/--no-align",
    "align",
    default=None,
    help="Find the faces and align them.  [default: photos of another size than the model's, if"
    " it was trained on aligned faces]",
)
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    photos: tuple[Path, Path],
    model: Path,
    threshold: float | None,
    align: bool | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Say whether the photos A and B show the same person, with the probability.

    A model trained with SphereFace2 has a threshold and a probability of its own, from its r and
    b; any other needs --threshold, as from a report.

    \b
    Examples:
      sf2 verify a.jpg b.jpg --model runs/mine
      sf2 verify a.jpg b.jpg --model model.onnx --threshold 0.39
    """
    from sf2cli.evaluation.input_options import InputOptions
    from sf2cli.evaluation.same_person import verify

    aligning = {None: "auto", True: "yes", False: "no"}[align]
    answer = verify(
        model,
        photos,
        InputOptions(**said),
        threshold=threshold,
        aligning=aligning,  # type: ignore[arg-type]
    )
    if as_json:
        console.result_json(answer.as_json())
    else:
        console.result_text(str(answer))
