"""The runs of a study, and what each depends on: checked before any starts, told from earlier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sf2cli.data.manifest import MANIFEST_NAME
from sf2cli.data.packed import PackedSet
from sf2cli.errors import Sf2Error
from sf2cli.files import file_sha256
from sf2cli.recipe import Recipe, load_recipe
from sf2cli.study.spec import Cell, Study
from sf2cli.training.ds_config import load_ds_config
from sf2cli.training.start import check_inputs

RESULT = "result.json"


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a cell with one seed, its folder, its recipe, the set it is measured on, and
    `inputs`, which it depends on: the fields of the recipe, hashes of the DeepSpeed file, the
    training and the test set, and the ranks if the study says how many."""

    cell: Cell
    seed: int
    folder: Path
    recipe: Recipe
    test: Path
    inputs: dict[str, Any]


def plan(study: Study, folder: Path) -> list[Job]:
    """Every run, seeds first: a study that is cut short has all cells of some seeds.

    Raises:
        Sf2Error: a recipe, DeepSpeed file or set with which a run could not start or be measured.
    """
    deepspeed = load_ds_config(study.deepspeed)
    shards_sha256 = cache(lambda place: file_sha256(place))
    jobs = []
    for seed in study.seeds:
        test = study.test_for(seed)
        test_sha256 = _check_test(test)
        for cell in study.cells():
            said = cell.with_seed(seed).items()
            try:
                recipe = load_recipe(
                    study.recipe, tuple(f"{field}={json.dumps(v)}" for field, v in said)
                )
                _, packed = check_inputs(recipe, deepspeed, study.deepspeed, cell.nproc or 1)
            except Sf2Error as failure:
                raise Sf2Error(f"{cell.name}: {failure.message}", failure.remedy) from None
            inputs: dict[str, Any] = {
                "recipe": recipe.model_dump(mode="json", by_alias=True),
                "deepspeed": deepspeed,
                "training set": shards_sha256(packed.folder / MANIFEST_NAME),
                "test set": test_sha256,
            }
            if cell.nproc is not None:
                inputs["ranks"] = cell.nproc
            place = folder.joinpath("runs", *cell.options.values(), f"seed-{seed}")
            jobs.append(Job(cell, seed, place, recipe, test, json.loads(json.dumps(inputs))))
    return jobs


def _check_test(test: Path) -> str:
    """The hash of the test set's manifest."""
    try:
        packed = PackedSet.open(test)
    except Sf2Error as failure:
        raise Sf2Error(f"test {test}: {failure.message}", failure.remedy) from None
    counts = np.bincount(packed.labels)
    if (counts > 0).sum() < 2 or counts.max() < 2:
        raise Sf2Error(
            f"test {test}: {len(packed)} images of {int((counts > 0).sum())} identities",
            "Pairs of both kinds need two identities, one of them with two images.",
        )
    return file_sha256(test / MANIFEST_NAME)


def result(job: Job) -> dict[str, Any] | None:
    """What was written when the run ended, or None."""
    try:
        found = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "metrics" in found else None


def is_done(job: Job) -> bool:
    """Whether the run ended with these very inputs."""
    found = result(job)
    return found is not None and found.get("inputs") == job.inputs


def changes(jobs: Sequence[Job]) -> list[str]:
    """Why runs that have a result are done again, in sentences."""
    reasons: dict[str, int] = {}
    for job in jobs:
        if (found := result(job)) is not None:
            why = ", ".join(_changed(found.get("inputs"), job.inputs))
            reasons[why] = reasons.get(why, 0) + 1
    return [f"{count} of the runs again, for this has changed: {w}" for w, count in reasons.items()]


def _changed(before: Any, now: dict[str, Any]) -> list[str]:
    if not isinstance(before, dict):
        return ["sf2, which did not note what they depend on"]
    fields = []
    for name in {**now, **before}:
        if name in ("recipe", "deepspeed"):
            old, new = _flat(before.get(name)), _flat(now[name])
            keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
            fields += [
                f"{key} of the {name.replace('deepspeed', 'DeepSpeed file')}" for key in keys
            ]
        elif before.get(name) != now.get(name):
            fields.append(f"the {name}")
    return fields


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}.{name}" if prefix else name)
    return flat
