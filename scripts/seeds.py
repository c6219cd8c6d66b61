"""EER on ten unseen AT&T identities for three seeds, on one rank and on two: `make seeds`.

A seed draws which ten identities are held out as well as the training. The last row holds out the
last ten instead, s31 to s40, the hardest: one of them was photographed at two distances.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from pathlib import Path

SEEDS = (0, 1, 2)
RANKS = (1, 2)


def sf2(*arguments: str) -> str:
    done = subprocess.run(["sf2", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def rates(folder: Path, split: tuple[str, ...], seed: int) -> dict[str, float]:
    """The EER in percent of the raw pixels and of a model trained on each number of ranks."""
    shards = folder / "shards" / "att"
    sf2("pack", "att", str(shards), "--holdout", "10", *split, "--size", "64", "--overwrite")
    found = {}
    for ranks in RANKS:
        run = folder / f"{'-'.join(split)}-{seed}-{ranks}"
        settings = (f"data.shards={shards}-train", f"seed={seed}")
        sf2(
            *("train", "configs/att.yaml", "--deepspeed", "configs/ds_zero1.json"),
            *("--nproc", str(ranks), "--out", str(run)),
            *(part for setting in settings for part in ("--set", setting)),
        )
        report = json.loads(sf2("eval", str(run), "--set", f"{shards}-test", "--json"))
        results = report["sets"][0]["results"]
        found["raw pixels"] = 100 * results["raw pixels"]["eer"]
        found[f"{ranks} rank" + "s" * (ranks > 1)] = 100 * results["model"]["eer"]
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {f"seed {s}": rates(folder, ("--holdout-seed", str(s)), s) for s in SEEDS}
        columns = list(rows["seed 0"])
        by_column = {c: [row[c] for row in rows.values()] for c in columns}
        rows["mean"] = {c: statistics.mean(values) for c, values in by_column.items()}
        rows["standard deviation"] = {c: statistics.stdev(v) for c, v in by_column.items()}
        rows["last ten, seed 0"] = rates(folder, (), 0)
    print("| EER, % | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for title, row in rows.items():
        print(f"| {title} | " + " | ".join(f"{row[c]:.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
