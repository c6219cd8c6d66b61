"""`sf2 eval`: options in, one call out."""

from __future__ import annotations

from pathlib import Path

import click

from sf2cli import console


@click.command("eval", short_help="Evaluate a model on held-out identities.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "packed",
    type=click.Path(path_type=Path),
    required=True,
    help="A packed set of identities the model was not trained on: all its pairs.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Report folder.  [default: MODEL/eval]"
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the table.")
def command(model: Path, packed: Path, out: Path | None, as_json: bool) -> None:
    """Evaluate MODEL, a run or model folder: EER, AUC, accuracy, TAR at FAR, and a report.

    \b
    Example:
      sf2 eval runs/att --set shards/att-test
    """
    from sf2cli.evaluation.all_pairs import evaluate
    from sf2cli.evaluation.report import table, write_report

    evaluation = evaluate(model, packed)
    page = write_report(evaluation, out or model / "eval")
    if as_json:
        console.result_json(evaluation.report)
    else:
        console.result_table(f"{packed}, all pairs", *table(evaluation.report))
    console.info(f"report: {page}")
