"""The options of `sf2 eval` that name protocols beyond pairs, and how they are measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)
# As in evaluation.conventions, which imports numpy.
_CONVENTIONS = ("sf2", "insightface", "opensphere")


def protocol_options(command: F) -> F:
    """Give `command` the options, as parameters identified, identify_seed, ijbs, megafaces,
    combined and convention."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def each_once(context: click.Context, option: click.Parameter, named: tuple[Path, ...]) -> Any:
    """Refuses a path that an option names twice: the report would hold the same numbers twice."""
    for path in named:
        if named.count(path) > 1:
            raise click.BadParameter(f"{path} is named twice; name it once.")
    return named


_OPTIONS = [
    click.option(
        "--combined",
        is_flag=True,
        help="Also pool every --bin and --pairs under one threshold, as the paper does with LFW,"
        " AgeDB-30, CALFW and CPLFW.",
    ),
    click.option(
        "--identify",
        "identified",
        type=_PATH,
        multiple=True,
        metavar="PACKED",
        callback=each_once,
        help="A packed set for open-set identification: half of its people enrolled by one image"
        " each, all other images sought.",
    ),
    click.option(
        "--identify-seed",
        type=click.IntRange(0, 2**32 - 1),
        default=0,
        show_default=True,
        help="Draws who is enrolled, and by which image.",
    ),
    click.option(
        "--ijb",
        "ijbs",
        type=_PATH,
        multiple=True,
        metavar="ROOT",
        callback=each_once,
        help="IJB-B or IJB-C as InsightFace packs it (loose_crop/ and meta/): 1:1 and 1:N.",
    ),
    click.option(
        "--megaface",
        "megafaces",
        type=_PATH,
        multiple=True,
        metavar="ROOT",
        callback=each_once,
        help="MegaFace: facescrub_images/, megaface_images/, their lists and noise lists.",
    ),
    click.option(
        "--convention",
        type=click.Choice(_CONVENTIONS),
        default="sf2",
        show_default=True,
        help="Whose definitions of accuracy, TAR at FAR, templates and TPIR at FPIR to use; the"
        " report says what they are.",
    ),
]
