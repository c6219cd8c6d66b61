"""The options that say what a model's file does not: how images become its input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--image-size", type=click.IntRange(min=1), help="Side of the model's input in pixels."
    ),
    click.option(
        "--mean",
        type=float,
        help="A pixel p enters as (p - MEAN) / SCALE; a model of sf2 knows.  [default: 127.5]",
    ),
    click.option(
        "--scale", type=click.FloatRange(min=0, min_open=True), help="See --mean.  [default: 127.5]"
    ),
    click.option(
        "--colour",
        type=click.Choice(["RGB", "BGR", "L"]),
        help="Order of the colours.  [default: RGB, or L for a model of one colour]",
    ),
    click.option(
        "--mirror/--no-mirror",
        "mirrored",
        default=None,
        help="Whether the mirrored image's features are added.  [default: as in training, or yes]",
    ),
    click.option(
        "--keys",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="For features in a .npy: the image of each row, one a line.",
    ),
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets them as the fields of `InputOptions`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
