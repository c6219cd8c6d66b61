"""`sf2 audit`: options in, one call out."""

from __future__ import annotations

from pathlib import Path

import click

from sf2cli import console

_PATH = click.Path(path_type=Path)


@click.command("audit", short_help="Look through a packed set: duplicates, wrong labels, overlap.")
@click.argument("packed", type=_PATH)
@click.option(
    "--model",
    type=_PATH,
    metavar="RUN",
    help="A trained model: which identities look like one person, which images like another's.",
)
@click.option(
    "--against",
    type=_PATH,
    metavar="PACKED",
    help="A packed set for evaluation, which should share nothing with this one.",
)
@click.option(
    "--min-images",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="List identities with fewer images.",
)
@click.option(
    "--one-person-from",
    type=click.FloatRange(-1, 1),
    metavar="COSINE",
    help="From which cosine of their mean embeddings two identities pass for one person."
    "  [default: what three in four identities have between the halves of their own images]",
)
@click.option("--out", type=_PATH, help="Report folder.  [default: PACKED-audit beside it]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier audit in the report folder.")
@click.option("--json", "as_json", is_flag=True, help="Print audit.json instead of the table.")
def command(
    packed: Path,
    model: Path | None,
    against: Path | None,
    min_images: int,
    one_person_from: float | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Look through the packed set PACKED for what a training set should not have.

    Finds images that are there twice, byte for byte or nearly, within an identity and across;
    identities with few images; images of another size; with --model also identities that look
    like one person and images that do not look like their identity; with --against what the set
    shares with one for evaluation. Changes nothing, but writes audit.json, audit.html with
    pictures, and drop.txt and merge.txt, which `sf2 pack` takes.

    \b
    Examples:
      sf2 audit shards/mine
      sf2 audit shards/mine --model runs/first --against shards/test --out audit
      sf2 pack shards/mine shards/clean --drop audit/drop.txt --merge audit/merge.txt
    """
    if one_person_from is not None and model is None:
        raise click.UsageError("--one-person-from needs --model.")
    from sf2cli.audit.run import audit

    outcome = audit(
        packed,
        out,
        min_images=min_images,
        model=model,
        against=against,
        one_person_from=one_person_from,
        overwrite=overwrite,
    )
    if as_json:
        console.result_json(outcome.document)
    else:
        console.result_table("audit", ("what", "found", "lines of drop.txt"), outcome.rows)
    console.info(f"report: {outcome.page}")
