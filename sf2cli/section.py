"""What every section of a settings file is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and refuses unknown fields and numbers that are not finite: a misspelt setting is an
    error and not a default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


def field_names(section: type[BaseModel], loss: str, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields below a section, as a user writes them.

    Args:
        loss: which of the sections that `head` may be is meant.
    """
    for name, field in section.model_fields.items():
        said = prefix + (field.alias or name)
        yield said
        for inner in _sections(field.annotation):
            tag = inner.model_fields.get("loss")
            if tag is None or loss in get_args(tag.annotation):
                yield from field_names(inner, loss, f"{said}.")


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
