"""A shard from a URL or from a command's output to a file; what stalls is an error, not a wait."""

from __future__ import annotations

import http.client
import os
import select
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import BinaryIO

from sf2cli.errors import Sf2Error

PIPE = "pipe:"
STALL_S = 60.0
# Seconds to wait before each further attempt at a server that failed.
_PAUSES_S = (1.0, 4.0)
_CHUNK_BYTES = 1 << 20


class NotThereError(Sf2Error):
    """The server answers that it has no such thing."""


def is_remote(word: str) -> bool:
    """Whether a word is a URL or a `pipe:`, rather than a path."""
    return word.startswith(PIPE) or "://" in word


def download(url: str, target: BinaryIO) -> None:
    """Write all that `url` gives to `target`, from where that stands.

    Args:
        url: http://, https://, or `pipe:COMMAND`, which a shell runs for its standard output.
        target: a file; it is cut back before a second attempt.

    Raises:
        NotThereError: the server has no such thing.
        Sf2Error: it cannot be reached, stalls or ends early, or the command fails.
        OSError: the file cannot be written.
    """
    if url.startswith(PIPE):
        _copy(_output(url.removeprefix(PIPE), url), target)
        return
    if not url.startswith(("http://", "https://")):
        raise Sf2Error(
            f"data.shards {url}: only http, https and pipe: can be read",
            "For another store name its tool: 'pipe:aws s3 cp s3://bucket/x-{000..123}.tar -'.",
        )
    start = target.tell()
    for pause in (*_PAUSES_S, None):
        try:
            _copy(_response(url), target)
            return
        except _ServerError as failure:
            if pause is None:
                raise Sf2Error(
                    f"data.shards {url}: {failure}", "See that the server answers, and start again."
                ) from None
            time.sleep(pause)
            target.seek(start)
            target.truncate()


class _ServerError(Exception):
    """A failure that may pass."""


def _copy(chunks: Iterator[bytes], target: BinaryIO) -> None:
    for chunk in chunks:
        target.write(chunk)


def _response(url: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=STALL_S) as answer:
            expected = answer.headers.get("Content-Length")
            found = 0
            while chunk := answer.read(_CHUNK_BYTES):
                found += len(chunk)
                yield chunk
            if expected is not None and found != int(expected):
                raise _ServerError(f"{found} of {expected} bytes came")
    except urllib.error.HTTPError as failure:
        if failure.code in (403, 404, 410):
            raise NotThereError(f"data.shards {url}: HTTP status {failure.code}") from None
        raise _ServerError(f"HTTP status {failure.code}") from None
    except urllib.error.URLError as failure:
        raise _ServerError(str(failure.reason)) from None
    except (OSError, http.client.HTTPException) as failure:
        raise _ServerError(str(failure) or type(failure).__name__) from None
    except ValueError as failure:
        raise Sf2Error(f"data.shards {url}: no URL ({failure})") from None


def _output(command: str, url: str) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            # A group of its own: what the shell started ends with it.
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            descriptor = process.stdout.fileno()
            while True:
                if not select.select([descriptor], [], [], STALL_S)[0]:
                    raise Sf2Error(f"data.shards {url}: nothing came for {STALL_S:.0f} s")
                chunk = os.read(descriptor, _CHUNK_BYTES)
                if not chunk:
                    break
                yield chunk
            status = process.wait(STALL_S)
        except subprocess.TimeoutExpired:
            raise Sf2Error(f"data.shards {url}: it does not end") from None
        finally:
            _end(process, process.stdout.close)
        if status:
            said.seek(0)
            last = said.read(1 << 16).decode("utf-8", "replace").strip().splitlines()[-1:]
            raise Sf2Error(
                f"data.shards {url}: exit status {status}" + "".join(f": {line}" for line in last),
                "Run the command by itself; it has to write one tar to its standard output.",
            )


def _end(process: subprocess.Popen[bytes], close: Callable[[], None]) -> None:
    close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
