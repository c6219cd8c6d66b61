"""Lists of what to leave out of a set and of who is one person, as `sf2 audit` writes them.

drop.txt: an image of sources.txt a line, or an identity's name with a `/` behind it.
merge.txt: the names of one person a line, between tabs; the first is kept.
Lines that start with `# ` say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sf2cli.errors import Sf2Error

_COMMENT = "# "


def drop_text(reasons: Mapping[str, Sequence[str]]) -> str:
    """drop.txt, a section for each reason; a line that two reasons have stands once.

    A name that would read as a comment or as two lines is told in a comment, and so not dropped.
    """
    lines = [f"{_COMMENT}An image a line, or `identity/` for all of one."]
    written: set[str] = set()
    for reason, entries in reasons.items():
        fresh = [entry for entry in dict.fromkeys(entries) if entry not in written]
        written.update(fresh)
        lines += [f"{_COMMENT}{reason}", *map(_as_line, fresh)] if fresh else []
    return "\n".join(lines) + "\n"


def merge_text(groups: Sequence[Sequence[str]]) -> str:
    """merge.txt, a line for each group of names; one that no line can hold is told in a comment."""
    lines = [f"{_COMMENT}The names of one person a line, between tabs; the first is kept."]
    for group in groups:
        if any("\t" in name or _is_no_line(name) for name in group):
            lines.append(f"{_COMMENT}Left out, for a name has a tab or begins like this: {group}")
        else:
            lines.append("\t".join(group))
    return "\n".join(lines) + "\n"


def load_drop(path: Path) -> set[str]:
    """The images, and the identities with a `/` behind, that `path` lists.

    Raises:
        Sf2Error: it cannot be read.
    """
    return set(_lines("--drop", path))


def load_merge(path: Path) -> dict[str, str]:
    """The name that each name of `path` becomes, itself for the first of a line.

    Raises:
        Sf2Error: it cannot be read, or a name stands in it twice.
    """
    kept: dict[str, str] = {}
    for line in _lines("--merge", path):
        names = line.split("\t")
        for name in names:
            if name in kept:
                raise Sf2Error(
                    f"--merge {path}: {name!r} stands in it twice",
                    "Put all names of one person in one line.",
                )
            kept[name] = names[0]
    return kept


def _as_line(name: str) -> str:
    return f"{_COMMENT}Left out, as no line can hold it: {name!r}" if _is_no_line(name) else name


def _is_no_line(name: str) -> bool:
    """Whether a name would be read back as something else."""
    return name.startswith(_COMMENT) or "\n" in name or name.endswith("\r")


def _lines(option: str, path: Path) -> list[str]:
    try:
        # Not splitlines: a name may hold what Unicode takes for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as failure:
        raise Sf2Error(f"{option} {path}: cannot be read ({failure.strerror})") from None
    except UnicodeDecodeError:
        raise Sf2Error(f"{option} {path}: not UTF-8 text") from None
    stripped = (line.removesuffix("\r") for line in lines)
    return [line for line in stripped if line and not line.startswith(_COMMENT)]
