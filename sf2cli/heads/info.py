"""What a saved head holds and whether it is sound, read block by block."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.heads.manifest import HeadManifest, check_files, read_head_manifest, read_range
from sf2cli.heads.shard_file import BLOCK_ROWS
from sf2cli.heads.softmax import MarginSoftmax
from sf2cli.heads.tiles import row_tiles

# A row of stored numbers is of unit length to this; a bfloat16 is off by up to 1/128.
_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 1e-2}
_LISTED = 20
_COMPARED = 2048


class Table(NamedTuple):
    """What `console.result_table` prints."""

    title: str
    columns: list[str]
    rows: list[list[object]]
    notes: list[str]


def head_info(folder: Path, similar: float | None = None) -> dict[str, Any]:
    """The manifest's numbers, norms of rows and momentum, and the rows that are not sound.

    Rows of one direction are those of equal bytes. At no time is more than a block of rows held,
    and eight bytes for each identity.

    Args:
        folder: a saved head.
        similar: also list the pairs of rows whose cosine is above this.

    Raises:
        Sf2Error: a file is missing, short, changed or foreign, or `similar` is asked of a head with
            sub-centres.
    """
    manifest = read_head_manifest(folder)
    check_files(folder, manifest)
    softmax = isinstance(manifest.loss, MarginSoftmax)
    if similar is not None and manifest.row_size != manifest.embedding_size:
        raise Sf2Error(
            f"--similar {similar:g}: {folder} has several sub-centres an identity",
            "Rows are compared one an identity; leave --similar out.",
        )
    # A softmax normalises its rows inside the loss, and keeps them at any length.
    survey = _Survey(math.inf if softmax else _TOLERANCE[manifest.dtype])
    with console.progress("read rows", manifest.num_classes, "rows") as line:
        for first, rows in _blocks(folder, manifest):
            survey.add(first, rows)
            line.advance(len(rows))
    if manifest.optimizer.momentum:
        # Its hashes are checked on the way.
        for first, rows in _blocks(folder, manifest, tensor="momentum"):
            survey.momentum_not_finite += _not_finite(first, rows.float().norm(dim=1))

    def named(ids: list[int]) -> list[str]:
        names = manifest.identities
        return [names[i] if names else str(i) for i in ids[:_LISTED]]

    found = {
        "head": str(folder),
        "num_classes": manifest.num_classes,
        "embedding_size": manifest.embedding_size,
        "dtype": manifest.dtype,
        "named": manifest.identities is not None,
        "bias": manifest.bias,
        "loss": vars(manifest.loss),
        "optimizer": manifest.optimizer.model_dump(),
        "files": [
            {
                "file": entry.file,
                "start": entry.start,
                "stop": entry.stop,
                "bytes": manifest.layout(entry).size,
            }
            for entry in manifest.files
        ],
        "norms": survey.norms(),
        "not_finite": {"count": len(survey.not_finite), "first": named(survey.not_finite)},
        "momentum_not_finite": {
            "count": len(survey.momentum_not_finite),
            "first": named(survey.momentum_not_finite),
        },
        "not_unit": {"count": len(survey.not_unit), "first": named(survey.not_unit)},
        "same_direction": {
            "count": len(survey.repeated),
            "first": [named([a, b]) for a, b in survey.repeated[:_LISTED]],
        },
    }
    if similar is not None:
        count, pairs = _similar(folder, manifest, similar)
        found["similar"] = {
            "above": similar,
            "count": count,
            "first": [[*named([a, b]), cosine] for cosine, a, b in pairs],
        }
    return found


@dataclass
class _Survey:
    tolerance: float
    not_finite: list[int] = field(default_factory=list)
    momentum_not_finite: list[int] = field(default_factory=list)
    not_unit: list[int] = field(default_factory=list)
    repeated: list[tuple[int, int]] = field(default_factory=list)
    _seen: dict[bytes, int] = field(default_factory=dict)
    _norms: list[Tensor] = field(default_factory=list)

    def add(self, first: int, rows: Tensor) -> None:
        norms = rows.float().norm(dim=1)
        finite = norms.isfinite()
        self.not_finite += _not_finite(first, norms)
        off = finite & ((norms - 1).abs() > self.tolerance)
        self.not_unit += (first + off.nonzero().flatten()).tolist()
        self._norms.append(norms[finite])
        for i, row in enumerate(rows.contiguous().view(torch.uint8).numpy(), first):
            digest = hashlib.blake2b(row.data, digest_size=8).digest()
            earlier = self._seen.setdefault(digest, i)
            if earlier != i:
                self.repeated.append((earlier, i))

    def norms(self) -> dict[str, float] | None:
        """Least, mean and greatest norm of the rows that have one."""
        every = torch.cat(self._norms)
        if not len(every):
            return None
        return {name: getattr(every, name)().item() for name in ("min", "mean", "max")}


def _not_finite(first: int, norms: Tensor) -> list[int]:
    return [first + i for i in (~norms.isfinite()).nonzero().flatten().tolist()]


def _blocks(
    folder: Path, manifest: HeadManifest, start: int = 0, tensor: str = "weight"
) -> Iterator[tuple[int, Tensor]]:
    """The blocks of rows as they lie in the files, each with its first id, from `start` on."""
    dtype: torch.dtype = getattr(torch, manifest.dtype)
    for entry in manifest.files:
        for block in row_tiles(entry.stop - entry.start, BLOCK_ROWS):
            first = entry.start + block.start
            if first >= start:
                count = block.stop - block.start
                rows = torch.empty(count, manifest.row_size, dtype=dtype)
                read_range(folder, manifest, first, {tensor: rows})
                yield first, rows


def _similar(
    folder: Path, manifest: HeadManifest, above: float
) -> tuple[int, list[tuple[float, int, int]]]:
    """How many pairs of rows are above that cosine, and the most similar: cosine and ids."""
    count, pairs = 0, list[tuple[float, int, int]]()
    with console.progress("compare rows", manifest.num_classes, "rows") as line:
        for first, rows in _blocks(folder, manifest):
            some = F.normalize(rows.float())
            for other, others in _blocks(folder, manifest, first):
                columns = F.normalize(others.float()).T
                for start, part in enumerate(some.split(_COMPARED)):
                    row = first + start * _COMPARED
                    # Later ids alone: every pair once, and no row with itself.
                    cos = (part @ columns).triu(row - other + 1)
                    where = (cos > above).nonzero()
                    count += len(where)
                    pairs += zip(
                        cos[where[:, 0], where[:, 1]].tolist(),
                        (where[:, 0] + row).tolist(),
                        (where[:, 1] + other).tolist(),
                        strict=True,
                    )
                pairs = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:_LISTED]
            line.advance(len(rows))
    return count, pairs


def tables(found: dict[str, Any]) -> list[Table]:
    """`head_info` for the terminal: what is there, the files, and whether it is sound."""
    loss, optimizer, norms = found["loss"], found["optimizer"], found["norms"]
    if "variant" in loss:
        settings = ", ".join(f"{name} {value:g}" for name, value in loss.items() if name in "rmt")
        said = f"variant {loss['variant']}, lambda {loss['lam']:g}, {settings}"
    else:
        said = f"{loss['kind']}, margin {loss['margin']:g}, scale {loss['scale']:g}"
        if loss["sub_centres"] > 1:
            said += f", {loss['sub_centres']} sub-centres"
    bias = "-" if found["bias"] is None else f"{found['bias']:.4f}"
    momentum = f"kept, {optimizer['momentum']:g}" if optimizer["momentum"] else "none"
    spread = "-" if norms is None else "{min:.5f} / {mean:.5f} / {max:.5f}".format(**norms)
    rows: list[list[object]] = [
        ["identities (K)", f"{found['num_classes']:,}" + ("" if found["named"] else ", no names")],
        ["embedding size (d)", found["embedding_size"]],
        ["type of rows", found["dtype"]],
        ["momentum", momentum],
        ["steps of the optimiser", f"{optimizer['steps']:,}"],
        ["loss", said],
        ["bias", bias],
        ["norms: least / mean / greatest", spread],
    ]
    checks = {
        "not_finite": "rows that are not finite",
        "momentum_not_finite": "rows whose momentum is not finite",
        "not_unit": "rows not of unit length",
        "same_direction": "rows equal to an earlier one",
    }
    notes = []
    for name, words in checks.items():
        count, first = found[name]["count"], found[name]["first"]
        rows.append([words, count])
        if count:
            shown = [" = ".join(entry) if isinstance(entry, list) else entry for entry in first]
            notes.append(f"{words}: {', '.join(shown)}{', ...' if count > len(shown) else ''}")
    ranges = [
        [entry["file"], f"{entry['start']:,}", f"{entry['stop'] - 1:,}", f"{entry['bytes']:,}"]
        for entry in found["files"]
    ]
    made = [
        Table(found["head"], ["", ""], rows, notes or ["The head is sound."]),
        Table("ranges", ["file", "first id", "last id", "bytes"], ranges, []),
    ]
    if "similar" in found:
        above, count, first = (found["similar"][name] for name in ("above", "count", "first"))
        said = f"{count:,} pairs of identities above {above:g}"
        if not first:
            made[0].rows.append([f"pairs above {above:g}", 0])
        else:
            lines = [[a, b, f"{cosine:.4f}"] for a, b, cosine in first]
            title = said if count == len(first) else f"{said}, the first {len(first)}"
            made.append(Table(title, ["identity", "identity", "cosine"], lines, []))
    return made
