"""`sf2 watch`: options in, one call out."""

from __future__ import annotations

from pathlib import Path

import click

from sf2cli import console


@click.command("watch", short_help="Show a run's curves in the terminal.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for new steps.",
)
def command(run: Path, every: float) -> None:
    """Show the curves of RUN, a run folder: loss, similarities, validation, norms, speed.

    On a terminal it follows the run until its model is written or Ctrl-C; piped, it prints what
    there is and ends. A finished run has the same curves in training.html.

    \b
    Examples:
      sf2 watch runs/att
      sf2 watch runs/att | less
    """
    from sf2cli.training.watch import watch

    with console.live_text() as screen:
        watch(run, screen.show, screen.waiter(every), screen.size)
