"""`sf2 scale-test`: options in, one call out."""

from __future__ import annotations

from dataclasses import asdict

import click

from sf2cli import console


def _counts(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected whole numbers, found {value!r}") from None
    if min(counts) < 1:
        raise click.BadParameter(f"expected numbers of 1 or more, found {min(counts)}")
    return counts


@click.command("scale-test", short_help="Measure what N identities cost here.")
@click.option("--num-ids", required=True, callback=_counts, help="N, or several: N,N,...")
@click.option("--embedding-size", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--steps", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    num_ids: list[int], embedding_size: int, batch_size: int, steps: int, as_json: bool
) -> None:
    """Time a SphereFace2 head step on this machine, in one process, with its peak memory.

    \b
    Example:
      sf2 scale-test --num-ids 10000,100000
    """
    from sf2cli.scaling.measure import measure_head

    timings = [measure_head(n, embedding_size, batch_size, steps) for n in sorted(num_ids)]
    if as_json:
        console.result_json([asdict(timing) for timing in timings])
        return
    console.result_table(
        f"head step, d = {embedding_size}, B = {batch_size}",
        ["identities", "median s", "fastest", "slowest", "peak MiB", "ids x samples / s"],
        [
            [
                t.num_ids,
                f"{t.median_s:.4f}",
                f"{t.fastest_s:.4f}",
                f"{t.slowest_s:.4f}",
                t.peak_bytes >> 20,
                f"{t.num_ids * batch_size / t.median_s:.3g}",
            ]
            for t in timings
        ],
    )
