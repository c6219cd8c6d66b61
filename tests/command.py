"""Run `sf2` as a user does, without paying for its imports each time.

Every run is a process of its own, forked from one that has imported torch and DeepSpeed but has
not used them: half a second a run in place of five. Real launchers are tested without this.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0
# DeepSpeed's import of its Muon optimiser pulls in torch's compiler.
_IMPORTED = ["sf2cli.training.loop", "deepspeed.runtime.zero.muon.original_muon"]


@dataclass(frozen=True)
class Ended:
    """What a run left: exit status, standard output and standard error."""

    code: int
    out: str
    err: str


def sf2(*args: object, **options: Any) -> Ended:
    """Run `sf2 ARGS` as one process; `options` as of `sf2_ranks`."""
    return sf2_ranks([{}], *args, **options)[0]


def sf2_ranks(
    envs: list[dict[str, str]], *args: object, cwd: Path, max_file_bytes: int | None = None
) -> list[Ended]:
    """Run `sf2 ARGS` once for each environment, at the same time.

    Args:
        envs: what a launcher would have set for each rank.
        cwd: the folder they run in.
        max_file_bytes: a write beyond this fails, as on a full disk.
    """
    with running(envs, *args, cwd=cwd, max_file_bytes=max_file_bytes) as run:
        return run.end()


@dataclass(frozen=True)
class Running:
    """Ranks of `sf2` on their way."""

    processes: list[Any]
    folders: list[Path]

    def end(self) -> list[Ended]:
        """Wait until they have ended by themselves; what each left."""
        for process in self.processes:
            process.join(TIMEOUT_S)
            assert process.exitcode is not None, f"sf2 did not end within {TIMEOUT_S:.0f} s"
        return [
            Ended(process.exitcode, (folder / "out").read_text(), (folder / "err").read_text())
            for process, folder in zip(self.processes, self.folders, strict=True)
        ]


@contextmanager
def running(
    envs: list[dict[str, str]], *args: object, cwd: Path, max_file_bytes: int | None = None
) -> Iterator[Running]:
    """`sf2_ranks` while they run; what still does at the end of the block is killed."""
    context = _context()
    with tempfile.TemporaryDirectory(prefix="sf2-command-") as name:
        folders = [Path(name) / str(rank) for rank in range(len(envs))]
        for folder in folders:
            folder.mkdir()
        processes = [
            context.Process(
                target=_main,
                args=([str(arg) for arg in args], folder, cwd, env, max_file_bytes),
                daemon=True,
            )
            for folder, env in zip(folders, envs, strict=True)
        ]
        for process in processes:
            process.start()
        try:
            yield Running(processes, folders)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _context() -> Any:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # Read when DeepSpeed is imported.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return context


def _main(
    args: list[str], folder: Path, cwd: Path, env: dict[str, str], max_file_bytes: int | None
) -> None:
    for name, descriptor in (("out", 1), ("err", 2)):
        with (folder / name).open("w") as stream:
            os.dup2(stream.fileno(), descriptor)
    os.chdir(cwd)
    os.environ.update(OMP_NUM_THREADS="1", **env)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    from sf2cli.cli import main

    sys.argv = ["sf2", *args]
    main()
