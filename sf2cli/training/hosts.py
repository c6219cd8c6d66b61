"""`--hostfile`: run this command on many hosts with DeepSpeed's launcher."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sf2cli import console
from sf2cli.errors import Sf2Error, why

_LINE = re.compile(r"^(\S+)\s+slots=(\d+)$")
_OPTION = "--hostfile"
_ANSWER_S = 10


def read_hostfile(path: Path) -> dict[str, int]:
    """Ranks of each host: lines `HOST slots=N`, as DeepSpeed reads them.

    Raises:
        Sf2Error: no such file, a line of another form, a host named twice, or no host at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"--hostfile {path}: cannot be read ({why(failure)})") from None
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.match(text)
        if match is None or int(match[2]) < 1:
            raise Sf2Error(
                f"--hostfile {path}: line {number}: expected HOST slots=N, found {line!r}"
            )
        if match[1] in slots:
            raise Sf2Error(f"--hostfile {path}: line {number}: {match[1]} is named twice")
        slots[match[1]] = int(match[2])
    if not slots:
        raise Sf2Error(f"--hostfile {path}: names no host", "Write lines of HOST slots=N.")
    return slots


def launch_on_hosts(path: Path, arguments: Sequence[str]) -> int:
    """Run `sf2 ARGUMENTS`, less --hostfile, on every host of the file; the exit status.

    DeepSpeed's launcher needs pdsh, ssh without a password, and sf2, the shards and the run folder
    at the same paths on every host. Where this machine is the only one it needs none of them.

    Raises:
        Sf2Error: the launcher, ssh or pdsh is not installed, or hosts are not reached.
    """
    launcher = Path(sys.executable).parent / "deepspeed"
    command = [str(launcher), "--hostfile", str(path), "--no_python", "--no_local_rank"]
    hosts = list(read_hostfile(path))
    if len(hosts) == 1 and hosts[0] in ("localhost", "127.0.0.1", socket.gethostname()):
        command += ["--master_addr", "127.0.0.1"]
    else:
        _check_reach(path, hosts)
        # It would start the ranks of a single host here, whatever the host's name.
        command.append("--force_multi")
    # DeepSpeed's own check ends in a traceback.
    command.append("--no_ssh_check")
    sf2 = str(Path(sys.executable).parent / "sf2")
    try:
        done = subprocess.run([*command, sf2, *without_hostfile(arguments)], check=False)
    except OSError as failure:
        raise Sf2Error(f"--hostfile {path}: {launcher}: {failure.strerror}") from None
    return min(done.returncode, 1) if done.returncode >= 0 else 1


def _check_reach(path: Path, hosts: Sequence[str]) -> None:
    for program in ("ssh", "pdsh"):
        if shutil.which(program) is None:
            raise Sf2Error(
                f"--hostfile {path}: {program} is not installed",
                "Install it, or start the ranks with torchrun or srun.",
            )
    failed = _unreached(hosts)
    if failed:
        many = f"{len(failed)} of {len(hosts)} hosts are" if len(hosts) > 1 else f"{hosts[0]} is"
        named = "; ".join(f"{host}: {said}" if len(hosts) > 1 else said for host, said in failed)
        raise Sf2Error(
            f"--hostfile {path}: {many} not reached by ssh without a password ({named})",
            f"Make `ssh {failed[0][0]} hostname` work; on one machine use --nproc.",
        )


def _unreached(hosts: Sequence[str]) -> list[tuple[str, str]]:
    """The hosts that do not answer in _ANSWER_S seconds, all asked at once, and what ssh says."""
    # Less than that, so that ssh can say why.
    limit = f"ConnectTimeout={_ANSWER_S - 2}"
    options = ("PasswordAuthentication=no", "BatchMode=yes", limit)
    command = ["ssh", *(word for option in options for word in ("-o", option))]
    deadline = time.monotonic() + _ANSWER_S
    failed = []
    with ExitStack() as held, console.progress("ssh", len(hosts), "hosts") as line:
        asked = []
        for host in hosts:
            # No pipe: a connection that ssh shares and keeps would hold it open.
            said = held.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            process = subprocess.Popen(
                [*command, host, "hostname"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            held.callback(process.kill)
            asked.append((host, process, said))
        for host, process, said in asked:
            try:
                status = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                failed.append((host, f"no answer in {_ANSWER_S} s"))
            else:
                said.seek(0)
                words = said.read().strip().splitlines() or [f"exit status {status}"]
                failed += [(host, words[-1])] * (status != 0)
            line.advance()
    return failed


def without_hostfile(arguments: Sequence[str]) -> list[str]:
    """The command line that each rank gets."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != _OPTION and not argument.startswith(f"{_OPTION}="):
            kept.append(argument)
        skip = argument == _OPTION and not skip
    return kept
