"""From the word on the command line to a source."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sf2cli.data.sources.aligned import AlignedSource, NoFace
from sf2cli.data.sources.archive import ArchiveSource
from sf2cli.data.sources.att import AttSource
from sf2cli.data.sources.edited import EditedSource
from sf2cli.data.sources.folder import FolderSource
from sf2cli.data.sources.image_list import ListSource
from sf2cli.data.sources.parquet import ParquetSource, is_parquet
from sf2cli.data.sources.recordio import RecordIoSource
from sf2cli.data.sources.shard_samples import looks_like_shard
from sf2cli.data.sources.source import Source
from sf2cli.data.sources.webdataset import (
    SameNames,
    WebDatasetSource,
    is_shard_folder,
    names_shards,
)
from sf2cli.errors import Sf2Error


@dataclass(frozen=True)
class SourceOptions:
    """What is said of the source beside its name.

    Args:
        kind: one of KINDS; None looks at what is there.
        images: the folder that a list's paths are relative to; None is the list's own.
        same_names: what a name in several sets of shards means; None refuses it.
        settings: `field=value` of the kind fonts.
        align: a file of landmarks, or `mtcnn`; None leaves the images as they are.
        no_face: what an image without landmarks does.
        drop: a list of images and identities to leave out.
        merge: a list of names that are one person.
    """

    kind: str | None = None
    images: Path | None = None
    same_names: SameNames | None = None
    settings: tuple[str, ...] = ()
    align: str | None = None
    no_face: NoFace = "fail"
    drop: Path | None = None
    merge: Path | None = None


def find_source(word: str, options: SourceOptions) -> Source:
    """The source that SOURCE names: `att`, `fonts`, a file or a folder (`./att` for that).

    Raises:
        Sf2Error: SOURCE is empty, as an unset variable of the shell leaves it, or an option does
            not go with it.
    """
    if not word:
        raise Sf2Error("SOURCE '': no name", "Name a folder of images, or `att`.")
    kind = options.kind or _kind_of(word)
    if options.images is not None and kind != "list":
        raise Sf2Error(
            f"--images {options.images}: SOURCE {word} is no list but of the kind {kind}",
            "Leave --images out, or say --from list.",
        )
    if options.same_names is not None and kind != "webdataset":
        raise Sf2Error(
            f"--same-names {options.same_names}: SOURCE {word} is not several sets of shards but"
            f" of the kind {kind}",
            "Leave --same-names out.",
        )
    if options.settings and kind != "fonts":
        raise Sf2Error(
            f"--set {options.settings[0]}: SOURCE {word} is not fonts but of the kind {kind}",
            "Leave --set out, or say --from fonts.",
        )
    source = _MAKERS[kind](word, options)
    if options.drop is not None or options.merge is not None:
        source = EditedSource(source, options.drop, options.merge)
    if options.align is not None:
        source = AlignedSource(source, options.align, options.no_face)
    return source


def _kind_of(word: str) -> str:
    path = Path(word)
    if word in ("att", "fonts"):
        return word
    if names_shards(word):
        return "webdataset"
    if is_parquet(path):
        return "parquet"
    if os.path.isdir(path):
        if os.path.isfile(path / "train.rec"):
            return "recordio"
        return "webdataset" if is_shard_folder(path) else "folder"
    if path.suffix == ".rec" or path.name == "property":
        return "recordio"
    if path.suffix.lower() in (".lst", ".csv", ".tsv", ".txt"):
        return "list"
    if path.suffix.lower() in (".yaml", ".yml"):
        return "fonts"
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".zip")):
        return "webdataset" if path.suffix == ".tar" and looks_like_shard(path) else "archive"
    return "folder"


def _att(word: str, options: SourceOptions) -> Source:
    if word != "att":
        raise Sf2Error(f"--from att: SOURCE {word} is not the word att", "Leave --from out.")
    return AttSource()


def _recordio(word: str, options: SourceOptions) -> Source:
    path = Path(word)
    if path.name == "property":
        return RecordIoSource(path.with_name("train.rec"))
    return RecordIoSource(path / "train.rec" if os.path.isdir(path) else path)


def _list(word: str, options: SourceOptions) -> Source:
    return ListSource(Path(word), options.images or Path(word).parent)


def _fonts(word: str, options: SourceOptions) -> Source:
    # Drawing takes modules that no other source needs.
    from sf2cli.data.glyphs.settings import load_settings
    from sf2cli.data.sources.fonts import FontsSource

    path = Path(word)
    if path.suffix.lower() in (".yaml", ".yml"):
        return FontsSource(load_settings(path, options.settings), path)
    faces = () if word == "fonts" else (f"faces={json.dumps(word)}",)
    return FontsSource(load_settings(None, (*faces, *options.settings)))


_MAKERS: dict[str, Callable[[str, SourceOptions], Source]] = {
    "folder": lambda word, _: FolderSource(Path(word)),
    "att": _att,
    "recordio": _recordio,
    "list": _list,
    "archive": lambda word, _: ArchiveSource(Path(word)),
    "parquet": lambda word, _: ParquetSource(Path(word)),
    "fonts": _fonts,
    "webdataset": lambda word, options: WebDatasetSource(word, options.same_names),
}
KINDS = tuple(_MAKERS)
