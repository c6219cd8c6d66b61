"""`sf2 embed` from its options to the written files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf2cli.evaluation.cache import default_cache, embed_once
from sf2cli.evaluation.feature_file import ABOUT_NAME, EMBEDDINGS_NAME, KEYS_NAME
from sf2cli.evaluation.image_folder import open_images
from sf2cli.evaluation.input_options import InputOptions
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.report.document import made_by, model_entry
from sf2cli.evaluation.report.write import check_folder, write_files

PARQUET_NAME = "embeddings.parquet"


@dataclass(frozen=True)
class Embedded:
    """Where the files are, and what is in them."""

    folder: Path
    files: list[str]
    images: int
    dimensions: int


def run_embed(
    model: Path,
    source: Path,
    out: Path,
    said: InputOptions,
    *,
    overwrite: bool,
    cached: bool,
    argv: Sequence[str],
) -> Embedded:
    """Embed all images of a packed set or folder.

    Writes embeddings.npy, float32 [n, d], not scaled to unit length; keys.txt, the name of each
    row's image; embed.json, how they were made; and embeddings.parquet where pyarrow is installed.

    Raises:
        Sf2Error: what the user must mend; nothing is written then.
    """
    names = (EMBEDDINGS_NAME, KEYS_NAME, ABOUT_NAME, PARQUET_NAME)
    check_folder(out, names, overwrite=overwrite, flag="OUT", held="embeddings are")
    images = open_images(source)
    embedder = open_embedder(model, said)
    faces = images.faces
    cache = default_cache() if cached else None
    rows = embed_once(embedder, faces, images.data_sha256, "embed", cache)
    keys = [faces.source(i) for i in range(len(faces))]
    about = {
        "format": "sf2-embeddings",
        "version": 1,
        "model": model_entry(embedder.card),
        "embedding": embedder.card.definition(),
        "unit_length": False,
        "source": str(source),
        "data_sha256": images.data_sha256,
        "images": len(keys),
        "made_by": made_by(argv, embedder.device),
    }
    stream = io.BytesIO()
    np.save(stream, rows)
    files: dict[str, str | bytes] = {
        EMBEDDINGS_NAME: stream.getvalue(),
        KEYS_NAME: "".join(f"{key}\n" for key in keys),
        ABOUT_NAME: json.dumps(about, indent=2, ensure_ascii=False) + "\n",
    }
    parquet = _parquet(keys, rows)
    if parquet is not None:
        files[PARQUET_NAME] = parquet
    write_files(out, files, flag="OUT")
    return Embedded(out, list(files), *rows.shape)


def _parquet(keys: list[str], rows: NDArray[np.float32]) -> bytes | None:
    """Columns `key` and `embedding`; None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    stream = io.BytesIO()
    pq.write_table(pa.table({"key": pa.array(keys, pa.string()), "embedding": embedding}), stream)
    return stream.getvalue()
