"""How long evaluation takes at the benchmarks' sizes, on synthetic features: `make bench-eval`.

IJB-C's 15.7 million template pairs, scored and evaluated; 20,000 probes against a gallery of 3,600
people; MegaFace's 3,530 probes against a million distractors, and the 450 million pairs of 30,000
images, beside the bare matrix products on the same blocks. Medians of --repeats, with the extremes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from sf2cli import console
from sf2cli.evaluation.blocks import Block, corners, each_block, to_unit
from sf2cli.evaluation.counted import count_all_pairs
from sf2cli.evaluation.identification import FPIRS, RANKS, rank_rate, search, tpir_at_fpir
from sf2cli.evaluation.intervals import binomial_interval
from sf2cli.evaluation.megaface import FARS, search_distractors
from sf2cli.evaluation.scoring import dense_cosines
from sf2cli.evaluation.verification import SortedScores, auc, eer, roc, tar_at_far

DIMENSIONS = 512
IJB_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
Rows = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--distractors", type=int, default=1_000_000)
    parser.add_argument("--cases", default="pairs,search,megaface,counted")
    chosen = parser.parse_args()
    rows: list[list[str]] = []
    # A process each, so that each has a peak of memory of its own.
    spawn = multiprocessing.get_context("spawn")
    for name in chosen.cases.split(","):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            rows.append(process.submit(case, name, chosen).result())
    console.result_table(
        f"{torch.get_num_threads()} threads, medians of {chosen.repeats} with the extremes",
        ["", "time", "peak\nmemory", "bare product", "ratio"],
        rows,
    )


def case(name: str, chosen: argparse.Namespace) -> list[str]:
    """One row of the table, with the peak of this process's memory."""
    found = {"pairs": pairs, "search": one_to_n, "megaface": megaface, "counted": counted}[name](
        chosen
    )
    return [*found[:2], f"{peak_gib():.2f} GiB", *found[2:]]


def pairs(chosen: argparse.Namespace) -> tuple[str, str, str, str]:
    """15.7 million pairs of 23,124 templates: as IJB-C, 3,531 of them against the others."""
    generator = np.random.default_rng(0)
    people = generator.integers(0, 3531, 23_124)
    people[:3531] = np.arange(3531)
    rows = features(people, generator)
    first = generator.integers(0, 3531, 15_700_000)
    second = generator.integers(3531, 23_124, 15_700_000)
    issame = people[first] == people[second]

    def run() -> None:
        scores = dense_cosines(rows, first, second, "15.7 M pairs")
        split = SortedScores.of(scores, issame)
        for far in IJB_FARS:
            found = tar_at_far(split, far)
            binomial_interval(round((found.tar or 0) * len(split.genuine)), len(split.genuine))
        eer(split), auc(split), roc(split)

    return "15.7 M template pairs, scored and evaluated", spread(times(run, chosen.repeats)), "", ""


def one_to_n(chosen: argparse.Namespace) -> tuple[str, str, str, str]:
    """20,000 probes, half of them mated, against 3,600 people."""
    generator = np.random.default_rng(1)
    people = generator.integers(0, 7200, 20_000)
    probes = features(people, generator)
    gallery = features(np.arange(3600), generator)

    def run() -> None:
        found = search(probes, people, gallery, np.arange(3600), "1:N")
        for rank in RANKS:
            rank_rate(found, rank)
        for fpir in FPIRS:
            tpir_at_fpir(found, fpir)

    return "1:N, 20 k probes x 3.6 k people", spread(times(run, chosen.repeats)), "", ""


def megaface(chosen: argparse.Namespace) -> tuple[str, str, str, str]:
    """3,530 photos of 80 people among distractors."""
    generator = np.random.default_rng(2)
    people = generator.integers(0, 80, 3530)
    probes = features(people, generator)
    distractors = np.empty((chosen.distractors, DIMENSIONS), np.float32)
    for start in range(0, len(distractors), 1 << 15):
        part = distractors[start : start + (1 << 15)]
        part[:] = generator.standard_normal(part.shape, dtype=np.float32)
    to_unit(distractors)

    def bare() -> None:
        places = corners(len(probes), len(distractors), (len(probes), 2048))
        for _ in each_block(probes, distractors, places, nothing, "bare product"):
            pass

    def run() -> None:
        found = search_distractors(probes, people, distractors, "MegaFace")
        for rank in (1, 10, 100):
            found.rank_rate(rank)
        for far in FARS:
            found.tar_at_far(far)

    name = f"MegaFace, 3,530 probes x {chosen.distractors:,} distractors"
    return (name, *beside(bare, run, chosen.repeats))


def counted(chosen: argparse.Namespace) -> tuple[str, str, str, str]:
    """All pairs of 30,000 images of 3,000 people."""
    generator = np.random.default_rng(3)
    people = np.repeat(np.arange(3000), 10)
    rows = features(people, generator)

    def bare() -> None:
        places = [at for at in corners(30_000, 30_000, (4096, 4096)) if at.left >= at.top]
        for _ in each_block(rows, rows, places, nothing, "bare product"):
            pass

    def run() -> None:
        found = count_all_pairs(rows, people, "all pairs")
        found.eer(), found.auc(), found.best_accuracy()
        for far in IJB_FARS:
            found.tar_at_far(far)

    return ("all pairs of 30,000 images", *beside(bare, run, chosen.repeats))


def beside(bare: Callable[[], None], run: Callable[[], None], repeats: int) -> tuple[str, str, str]:
    """Both times and the median ratio; in turns, so that a busy machine is busy for both."""
    both = [(*times(bare, 1), *times(run, 1)) for _ in range(repeats)]
    ratio = statistics.median(mine / theirs for theirs, mine in both)
    return (
        spread([mine for _, mine in both]),
        spread([theirs for theirs, _ in both]),
        f"{ratio:.2f}",
    )


def nothing(block: Block) -> None:
    """What the bare product does with its blocks."""


def features(people: Rows, generator: np.random.Generator) -> Rows:
    """Unit rows: a direction a person, and noise."""
    centres = generator.standard_normal((int(people.max()) + 1, DIMENSIONS), dtype=np.float32)
    rows = centres[people]
    rows += 1.5 * generator.standard_normal(rows.shape, dtype=np.float32)
    to_unit(rows)
    return rows


def times(run: Callable[[], None], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found


def spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} s ({min(found):.2f}-{max(found):.2f})"


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    main()
