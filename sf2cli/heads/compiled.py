"""Building and loading kernels.cpp: once a machine, with the C++ compiler that is there.

DeepSpeed's ops and torch.compile also need that compiler. torch.compile serves the element-wise
part on CUDA; on a CPU it takes several passes over memory, does not vectorise the bit operations
of stochastic rounding, and costs each rank ten seconds and 200 MB to start.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from sf2cli.heads import arguments

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *(("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()),
)
_TIMEOUT_S = 120


class BuildError(Exception):
    """No compiler, or one that cannot build the kernels; the message says which."""


@functools.cache
def load() -> ctypes.CDLL:
    """The kernels as a library, built if this machine has not built them yet.

    Raises:
        BuildError: they cannot be built or loaded here.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise BuildError("no C++ compiler (c++, g++ or $CXX)")
    try:
        # Path.home() has no answer for a user without a home.
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sf2"
        path = folder / f"kernels-{_identity(compiler)}.so"
        if not path.exists():
            _build(compiler, path)
        library = ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as failure:
        raise BuildError(f"{compiler} did not build the head's kernels: {failure}") from None
    library.sf2_negatives.argtypes = [ctypes.POINTER(arguments.Negatives), *[ctypes.c_int] * 3]
    library.sf2_update.argtypes = [ctypes.POINTER(arguments.Update), *[ctypes.c_int] * 2]
    library.sf2_panel.argtypes = [ctypes.c_int]
    if library.sf2_panel(False):
        library.sf2_one_pass.argtypes = [ctypes.POINTER(arguments.Pass), *[ctypes.c_int] * 4]
    return library


def _build(compiler: str, path: Path) -> None:
    """Compile beside the place and rename: ranks that build at once do not meet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [*shlex.split(compiler), *_FLAGS, str(_SOURCE), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise BuildError(f"{compiler} did not build the head's kernels: {last[0]}")
        built.replace(path)


def _identity(compiler: str) -> str:
    """A name for source, flags, compiler and processor: a home may be shared by unlike hosts."""
    version = subprocess.run(
        [*shlex.split(compiler), "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S
    ).stdout
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256()
    for file in (_SOURCE, *sorted(_SOURCE.parent.glob("*.h"))):
        digest.update(file.read_bytes())
    digest.update("\n".join((*_FLAGS, version, processor)).encode())
    return digest.hexdigest()[:16]
