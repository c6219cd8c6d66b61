"""The `sf2` command: a click group that imports a subcommand only when it runs.

`sf2 --help` must not pay for torch or deepspeed, so the group knows the commands' names and one
line about each, and imports the module behind a name on first use.
"""

from __future__ import annotations

import atexit
import difflib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from sf2cli.errors import Sf2Error

COMMANDS = {
    "pack": "Pack face images into WebDataset shards.",
    "audit": "Look through a packed set: duplicates, wrong labels, overlap.",
    "train": "Train a backbone under DeepSpeed with an identity-sharded head.",
    "watch": "Show a run's curves in the terminal, live while it trains.",
    "eval": "Evaluate a model: accuracy, EER, AUC, TAR at FAR, and an HTML report.",
    "embed": "Write the embeddings of a packed set or a folder of images.",
    "verify": "Say whether two photos show one person.",
    "export": "Write a model as ONNX and safetensors, with a script to use it.",
    "head": "Look into the head of a run: sizes, ranges, norms and health.",
    "study": "Train a grid of recipes and seeds, and compare them.",
    "scale-test": "Measure what N identities cost on this machine.",
}


class LazyGroup(click.Group):
    """A click group whose commands live in `sf2cli.commands.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sf2cli.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a mistake is one message and status 1, Ctrl-C is status 130."""
        try:
            return super().invoke(ctx)
        except Sf2Error as failure:
            message, status = str(failure), failure.status
        except KeyboardInterrupt as interrupt:
            message, status = str(interrupt) or "interrupted", 130
        from sf2cli import console

        console.error(message)
        raise click.exceptions.Exit(status)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sf2", prog_name="sf2")
# DeepSpeed's launcher puts it before the command; the environment says the same.
@click.option("--local_rank", "--local-rank", type=int, hidden=True, expose_value=False)
def cli() -> None:
    """Train and evaluate face-recognition models with SphereFace2.

    \b
    A first run:
      sf2 pack photos/ shards/mine
      sf2 audit shards/mine
      sf2 train configs/att.yaml --deepspeed configs/ds_zero1.json
      sf2 watch runs/att
      sf2 eval runs/att --set shards/att-test
      sf2 verify a.jpg b.jpg --model runs/att
      sf2 embed runs/att photos/ embeddings/photos
      sf2 export runs/att
      sf2 head info runs/att
      sf2 study configs/studies/losses.yaml
      sf2 scale-test --num-ids 1000000
    """


def main() -> None:
    """Console entry; ends the process."""
    try:
        cli.main()
    except SystemExit as ending:
        if "deepspeed" not in sys.modules:
            raise
        _end_with_threads(int(ending.code or 0))


def _end_with_threads(status: int) -> NoReturn:
    """End without tearing the interpreter down, which now and then aborts a run that is done:
    "terminate called without an active exception", from a thread that outlives its owner."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
