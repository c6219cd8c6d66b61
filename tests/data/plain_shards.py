"""WebDataset tars as others write them, of pictures that spell their sample's number."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from sf2cli.data.images import encode_png
from sf2cli.data.loader import TrainLoader

# Six tars of unequal sizes, and labels with gaps.
COUNTS = (5, 7, 3, 6, 4, 8)
LABELS = (7, 900, 12)
SAMPLES = sum(COUNTS)
BATCH = 6


def label_of(sample: int) -> int:
    return LABELS[sample % len(LABELS)]


def as_cls(sample: int) -> tuple[str, bytes]:
    return "cls", str(label_of(sample)).encode()


def as_json(sample: int) -> tuple[str, bytes]:
    return "json", json.dumps({"id": sample, "label": f"p{label_of(sample)}"}).encode()


def write_tars(
    folder: Path, label: Callable[[int], tuple[str, bytes]] = as_cls, missing: int | None = None
) -> list[Path]:
    """x-0.tar ... x-5.tar; the sample `missing` has no label."""
    folder.mkdir()
    sample, tars = 0, []
    for number, count in enumerate(COUNTS):
        tars.append(folder / f"x-{number}.tar")
        with tarfile.open(tars[-1], "w") as tar:
            for _ in range(count):
                picture = encode_png(np.full((4, 4, 1), sample, dtype=np.uint8))
                add_member(tar, f"a/{sample:03d}.png", picture)
                if sample != missing:
                    extension, content = label(sample)
                    add_member(tar, f"a/{sample:03d}.{extension}", content)
                sample += 1
    return tars


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a member of that name."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def loader_of(packed, rank=0, world_size=1, workers=0, **options) -> TrainLoader:
    return TrainLoader(
        packed,
        batch_size=BATCH // world_size,
        rank=rank,
        world_size=world_size,
        seed=1,
        image_size=4,
        channels=1,
        flip=True,
        workers=workers,
        **options,
    )


def drawn(batches) -> list[list[tuple[int, int]]]:
    """Sample and class id, row by row and batch by batch."""
    return [
        list(zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
        for images, labels in batches
    ]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server of a folder: its URL, and the paths asked for so far."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
