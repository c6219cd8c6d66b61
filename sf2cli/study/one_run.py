"""One run of a study, in a process of its own: train, measure, and write result.json.

python -m sf2cli.study.one_run FOLDER     with its task.json, recipe.yaml and ds.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.files import replace_file
from sf2cli.processes import end_with_parent


def main(folder: Path) -> None:
    """Do the task in `folder`."""
    # Imported late: importing torch takes seconds in which the study may be killed.
    from sf2cli.study.measure import measure, throughput
    from sf2cli.study.spec import THROUGHPUT
    from sf2cli.training.start import train

    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    nproc = task["inputs"].get("ranks")
    began = time.perf_counter()
    run = folder / "run"
    recipe, ds_json = folder / "recipe.yaml", folder / "ds.json"
    resume = (run / "metrics.jsonl").exists()
    command = ["train", str(recipe), "--deepspeed", str(ds_json), "--out", str(run)]
    if nproc is not None:
        command += ["--nproc", str(nproc)]
    try:
        train(
            recipe,
            ds_json,
            nproc=nproc,
            hostfile=None,
            timeout_s=600.0,
            out=run,
            resume=resume,
            accept_changed_shards=False,
            overrides=(),
            argv=[*command, "--resume"] if resume else command,
        )
    except SystemExit as ended:
        # So a parent of ranks ends.
        if ended.code:
            raise
    trained = time.perf_counter()
    metrics = measure(run, Path(task["test"]))
    if nproc is not None:
        metrics[THROUGHPUT] = throughput(run)
    result = {
        "inputs": task["inputs"],
        "metrics": metrics,
        "train_s": trained - began,
        "measure_s": time.perf_counter() - trained,
    }
    replace_file(folder / "result.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    end_with_parent()
    try:
        main(Path(sys.argv[1]))
    except Sf2Error as failure:
        console.error(str(failure))
        sys.stderr.flush()
        os._exit(failure.status)
    # DeepSpeed's threads may end the process with SIGABRT on the ordinary way out.
    sys.stdout.flush()
    os._exit(0)
