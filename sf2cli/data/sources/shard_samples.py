"""Samples in WebDataset tars: consecutive members of one key, an image and its label."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from sf2cli.data.sources.containers import Member, tar_members
from sf2cli.data.sources.grouping import InputFile
from sf2cli.data.sources.list_format import LABEL_NAMES
from sf2cli.data.sources.source import SUFFIXES, SourceFault, checked_name, source_fault
from sf2cli.errors import Sf2Error

_IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
# `id` numbers the sample more often than the person.
JSON_NAMES = tuple(name for name in LABEL_NAMES if name != "id")
_LABEL_BYTES = 65_536
_LOOKED_AT = 8


class Sample(NamedTuple):
    """An image with the name of its identity; `key` is the member's name."""

    key: str
    label: str
    offset: int
    size: int


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member, `a/b.left.JPG` being `a/b` and `left.jpg`.

    None for one without a dot, and for `__metadata__`.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not dot or (base.startswith("__") and base.endswith("__")):
        return None
    return f"{folder}{slash}{stem}", extension.lower()


def looks_like_shard(path: Path) -> bool:
    """Whether the first members of a tar are images with labels, rather than of a folder."""
    seen: dict[str, set[str]] = {}
    try:
        with path.open("rb") as stream:
            for member in islice(tar_members(stream, path), _LOOKED_AT):
                key, extension = split_name(member.name) or ("", "")
                seen.setdefault(key, set()).add(extension)
    except (Sf2Error, OSError):
        # Whoever opens it tells better.
        pass
    return any(
        # Text beside the images of a folder need not be a label.
        extensions & set(_IMAGES)
        and extensions & ({"cls"} if "/" in key else {"cls", "json", "txt"})
        for key, extensions in seen.items()
    )


@dataclass
class ShardReader:
    """Reads the samples of one tar.

    Args:
        path: the tar.
        names: the identities' names by class id, where a manifest has them.
    """

    path: Path
    names: list[str] | None = None
    without_image: int = 0
    faults: list[SourceFault] = field(default_factory=list)

    def samples(self) -> Iterator[Sample]:
        """The samples with an image, in the order of the tar; the others are counted.

        Faults are: a sample with an extension twice or with two images, one whose label is missing
        or none, a member that is no plain file, and all after a cut.

        Raises:
            Sf2Error: the tar cannot be read.
        """
        self._file = InputFile(self.path)
        with self.path.open("rb") as stream:
            key, fields = "", dict[str, Member]()
            for name, extension, member in self._members(stream):
                if name != key:
                    yield from self._sound(key, fields)
                    key, fields = name, {}
                if extension in fields:
                    self._note(
                        member.name, self._bad(key, f"the extension .{extension} is there twice")
                    )
                    # Of two labels neither counts, so nothing of the sample does.
                    fields = {"": member}
                elif "" not in fields:
                    fields[extension] = member
            yield from self._sound(key, fields)

    def _members(self, stream: IO[bytes]) -> Iterator[tuple[str, str, Member]]:
        """Key, extension and place of the plain files."""
        try:
            for member in tar_members(stream, self.path):
                try:
                    parts = split_name(checked_name(member.name, str(self.path)))
                    if parts is not None and member.kind != "file":
                        raise self._bad(parts[0], f"{member.name} is no plain file")
                except Sf2Error as failure:
                    self._note(member.name, failure)
                    continue
                if parts is not None:
                    yield *parts, member
        except Sf2Error as failure:
            self._note(self.path.name, failure)

    def _sound(self, key: str, fields: dict[str, Member]) -> Iterator[Sample]:
        if fields and "" not in fields:
            try:
                yield from self._sample(key, fields)
            except Sf2Error as failure:
                self._note(key, failure)

    def _note(self, name: str, failure: Sf2Error) -> None:
        self.faults.append(source_fault(name, failure))

    def _sample(self, key: str, fields: dict[str, Member]) -> Iterator[Sample]:
        images = [extension for extension in fields if extension in _IMAGES]
        if not images:
            self.without_image += 1
            return
        if len(images) > 1:
            raise self._bad(key, f"it has {len(images)} images: .{', .'.join(images)}")
        member = fields[images[0]]
        yield Sample(member.name, self._label(key, fields), member.place, member.size)

    def _label(self, key: str, fields: dict[str, Member]) -> str:
        problem = "it has no label: .cls, .json or .txt"
        for extension, parse in _PARSERS.items():
            if extension not in fields:
                continue
            member = fields[extension]
            if member.size > _LABEL_BYTES:
                raise self._bad(key, f".{extension} has {member.size} bytes, too many for a label")
            try:
                text = self._file.read(member.place, member.size).decode("utf-8").strip()
                label = parse(text)
            except (ValueError, RecursionError) as failure:
                problem = f".{extension} holds no label: {failure}"
                if extension == "cls":
                    break
                continue
            if extension == "cls" and self.names is not None:
                if int(label) >= len(self.names):
                    raise self._bad(key, f"its class {label} has no name in the manifest")
                return self.names[int(label)]
            return checked_name(label, str(self.path))
        raise self._bad(key, problem)

    def _bad(self, key: str, what: str) -> Sf2Error:
        return Sf2Error(
            f"SOURCE {self.path}: sample {key}: {what}",
            "A sample is an image and its label as .cls, .json or .txt, all of one key.",
        )


def _cls(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return str(int(text))


def _json(text: str) -> str:
    value = json.loads(text)
    if isinstance(value, dict):
        found = next((name for name in JSON_NAMES if name in value), None)
        if found is None:
            raise ValueError(f"no field of {', '.join(JSON_NAMES)}")
        value = value[found]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{str(value)[:40]!r} is neither text nor a whole number")
    return str(value)


def _txt(text: str) -> str:
    if not text or "\n" in text:
        raise ValueError("it is empty" if not text else "it has several lines")
    return text


_PARSERS: dict[str, Callable[[str], str]] = {"cls": _cls, "json": _json, "txt": _txt}
