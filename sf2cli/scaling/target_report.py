"""`--target`: the plan for a cluster that is not here, printed and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sf2cli import console
from sf2cli.errors import Sf2Error
from sf2cli.scaling.machines import find_machine
from sf2cli.scaling.options import Options
from sf2cli.scaling.plan import BackboneCost, largest_ids
from sf2cli.scaling.plan_table import PlanLine, plan_lines, require_fit, show_plan
from sf2cli.scaling.store import write_whole
from sf2cli.scaling.target import Cluster, Speed, assumptions, target_speed
from sf2cli.scaling.units import show_count, show_seconds
from sf2cli.scaling.workload import Workload

_COLUMNS = (
    "identities",
    "step",
    "product",
    "elements",
    "update",
    "dispatch",
    "links",
    "backbone",
    "samples/s",
    "of peak",
    "scaling",
)


def plan_target(options: Options, backbone: BackboneCost | None) -> None:
    """Plan, print and write target.json where there is a report folder.

    Raises:
        Sf2Error: an unknown target, sizes that do not divide, or a head that does not fit.
    """
    cluster = Cluster(find_machine(options.target or ""), options.hosts)
    workload = _workload(options.workload, cluster)
    platform = cluster.platform(options.zero_stage)
    budget = cluster.budget
    counts = options.num_ids or [
        max(1, largest_ids(options.heads[0], workload, budget, backbone, platform))
    ]
    lines = plan_lines(options.heads, counts, workload, budget, backbone, platform)
    title = f"{cluster.name}, d = {workload.embedding_size}, B = {workload.batch_size}"
    show_plan(lines, budget, workload.nproc, title, aside=options.as_json)
    timed = [
        (
            line,
            target_speed(line.head, line.num_ids, workload, cluster, backbone, options.zero_stage),
        )
        for line in lines
        if line.chosen and not line.head.is_softmax
    ]
    stage = None if backbone is None else options.zero_stage
    notes = [*assumptions(cluster, stage), _checked(options)]
    whole = {
        "format": "sf2-target",
        "version": 1,
        "machine": cluster.machine.model_dump(),
        "hosts": cluster.hosts,
        "settings": workload.model_dump(),
        "plan": [line.as_json() for line in lines],
        "speed": [
            {"head": line.head.label, "num_ids": line.num_ids, **speed.as_json()}
            for line, speed in timed
        ],
        "assumptions": notes,
    }
    if options.as_json:
        console.result_json(whole)
    else:
        _show(timed, title, notes)
    if options.out is not None:
        write_whole(options.out / "target.json", json.dumps(whole, indent=1) + "\n")
        console.info(f"report: {options.out / 'target.json'}")
    require_fit(lines, budget, workload.nproc)


def _workload(workload: Workload, cluster: Cluster) -> Workload:
    if workload.batch_size % cluster.devices:
        raise Sf2Error(
            f"--batch-size {workload.batch_size} does not divide by the {cluster.devices} devices"
            f" of {cluster.name}",
            "Every device takes the same number of samples.",
        )
    return workload.model_copy(update={"nproc": cluster.devices})


def _show(timed: Sequence[tuple[PlanLine, Speed]], title: str, notes: Sequence[str]) -> None:
    console.result_table(
        f"step of SphereFace2, planned, {title}",
        _COLUMNS,
        [_cells(line, speed) for line, speed in timed],
    )
    console.result_text(
        "of peak: the time of head and backbone at the dense peaks / step\n"
        "scaling: the step on links that cost nothing / step\n"
        "assumed:"
    )
    for note in notes:
        console.result_text(f"  - {note}")


def _cells(line: PlanLine, speed: Speed) -> list[str]:
    step = speed.step
    work = (step.total, step.product, step.elementwise, step.update)
    rest = (step.dispatch, step.communication, step.backbone)
    return [
        f"{show_count(line.num_ids)} {line.head.label.removeprefix('sphereface2 ')}",
        *(show_seconds(part) if part else "-" for part in (*work, *rest)),
        f"{speed.samples_per_s:,.0f}",
        f"{speed.of_peak:.0%}",
        f"{speed.without_links:.0%}",
    ]


def _checked(options: Options) -> str:
    """How the model did on this machine, where the report folder has measurements."""
    path = None if options.out is None else options.out / "scale.json"
    errors = []
    if path is not None and path.exists():
        try:
            rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["points"]
            errors = [row["model_error"] for row in rows if row["model_error"] is not None]
        except (OSError, ValueError, KeyError, TypeError) as failure:
            raise Sf2Error(f"{path}: not a report of sf2 scale-test ({failure})") from None
    if not errors:
        return (
            "the model is held against measurements by `sf2 scale-test --num-ids N,N`, column err;"
            " with its --out given here too, this line says how far it was off"
        )
    return (
        f"the model was off by {min(errors):+.0%} to {max(errors):+.0%} in {len(errors)}"
        f" measurements on this machine ({path})"
    )
