"""A study: one recipe, changed along named axes, trained with several seeds."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sf2cli.errors import Sf2Error, did_you_mean, why

_NAME = re.compile(r"^[\w.+=-]+( [\w.+=-]+)*$")

NPROC = "nproc"
THROUGHPUT = "images/s"
Changes = dict[str, Any]
"""Fields of the recipe by their dotted names, as for `sf2 train --set`, and their new values; and
`nproc`, the ranks to train on, as `sf2 train --nproc`: then the images a second are told too."""


class Study(BaseModel):
    """A study file.

    Args:
        name: of the study and of its report.
        recipe: the recipe that every run starts from, beside the study file.
        deepspeed: the DeepSpeed file of every run, beside the study file.
        test: the packed set, of identities that no run trains on, that every model is measured on.
        seeds: of the runs of one cell; each is the recipe's `seed`, and takes the place of {seed}
            in `test` and in changes, for a set that each seed splits anew.
        axes: name of an axis -> name of an option -> its changes. A cell takes one option of each
            axis; there is a cell for every combination.
        compare: the axis whose options stand side by side; the others make a table each.
        baseline: the option of `compare` that the others are compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    recipe: Path
    deepspeed: Path
    test: Path
    seeds: list[int] = Field(min_length=1)
    axes: dict[str, dict[str, Changes]] = Field(min_length=1)
    compare: str
    baseline: str

    @model_validator(mode="after")
    def _fits(self) -> Study:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one stands there twice")
        if self.compare not in self.axes:
            raise ValueError(f"compare is {self.compare!r}; the axes are {', '.join(self.axes)}")
        if self.baseline not in self.axes[self.compare]:
            options = ", ".join(self.axes[self.compare])
            raise ValueError(f"baseline is {self.baseline!r}; {self.compare} has {options}")
        for axis, choices in self.axes.items():
            wrong = [name for name in (axis, *choices) if not _NAME.match(name)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no name of an axis or option (it names folders)")
            if not choices:
                raise ValueError(f"axis {axis} has no option")
            for name, changes in choices.items():
                nproc = changes.get(NPROC, 1)
                if type(nproc) is not int or nproc < 1:
                    raise ValueError(f"{axis} {name}: nproc is {nproc!r}; expected 1 or more ranks")
        return self

    def cells(self) -> list[Cell]:
        """Every combination of options, the last axis changing fastest."""
        axes = list(self.axes)
        return [
            Cell(dict(zip(axes, names, strict=True)), self._changes(names))
            for names in itertools.product(*self.axes.values())
        ]

    def test_for(self, seed: int) -> Path:
        """What the runs with this seed are measured on."""
        return Path(_seeded(str(self.test), seed))

    def _changes(self, names: tuple[str, ...]) -> Changes:
        """The changes of all axes together; of two that change a field the later axis counts."""
        merged: Changes = {}
        for axis, name in zip(self.axes, names, strict=True):
            merged |= self.axes[axis][name]
        return merged


@dataclass(frozen=True)
class Cell:
    """One option of each axis, and what they change together."""

    options: dict[str, str]
    changes: Changes

    def with_seed(self, seed: int) -> Changes:
        """The recipe's changes for the run with this seed."""
        fields = {field: _seeded(value, seed) for field, value in self.changes.items()}
        fields.pop(NPROC, None)
        return {**fields, "seed": seed}

    @property
    def nproc(self) -> int | None:
        """The ranks to train on, where the study says so."""
        return self.changes.get(NPROC)

    @property
    def name(self) -> str:
        """The options' names, for people and folders."""
        return ", ".join(self.options.values())


def _seeded(value: Any, seed: int) -> Any:
    if isinstance(value, dict):
        return {name: _seeded(inner, seed) for name, inner in value.items()}
    if isinstance(value, list):
        return [_seeded(inner, seed) for inner in value]
    return value.replace("{seed}", str(seed)) if isinstance(value, str) else value


def load_study(path: Path) -> Study:
    """Read a study file; its recipe and DeepSpeed file are taken from beside it.

    Raises:
        Sf2Error: no such file, not YAML, an unknown field or a value that does not fit.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        study = Study.model_validate(tree)
    except FileNotFoundError:
        raise Sf2Error(f"study {path}: no such file", "configs/studies/ has some.") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"study {path}: cannot be read ({why(failure)})") from None
    except yaml.YAMLError as failure:
        raise Sf2Error(f"study {path}: not YAML: {' '.join(str(failure).split())}") from None
    except ValidationError as failure:
        raise Sf2Error(f"study {path}: {_explain(failure)}") from None
    beside = {"recipe": path.parent / study.recipe, "deepspeed": path.parent / study.deepspeed}
    return study.model_copy(update=beside)


def _explain(failure: ValidationError) -> str:
    lines = []
    for problem in failure.errors():
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"no field of a study{did_you_mean(where, Study.model_fields)}"
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)
