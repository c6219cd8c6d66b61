"""Where the time of a head step goes, from one profiled step that is not among the timed ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

PHASES = ("product", "elementwise", "update", "communication")
# The tiles of the one-pass head carry these labels.
_LABELS = {f"sf2.{phase}": phase for phase in PHASES}
# A softmax head carries none; its operators tell most of it, and the rest is element-wise.
_OPERATORS = {"aten::mm": "product", "aten::addmm": "product", "aten::_fused_sgd_": "update"}
_COLLECTIVES = ("gloo:", "nccl:")


def profile_phases(
    step: Callable[[], object],
    device: torch.device,
    scale: float,
    clocks: Mapping[str, float],
) -> dict[str, float]:
    """Seconds of each of PHASES and of "other" in one step.

    Args:
        step: takes the step of the head alone.
        scale: how many times more identities than those of `step` the answer is for; all but
            "communication" and "other" grow with them.
        clocks: seconds by phase that the step itself counts up, in calls that the profiler does
            not see into.
    """
    before = dict(clocks)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    cuda = device.type == "cuda"
    # The host's events carry the labels; on CUDA each knows the time of what it launched.
    spans = [
        (event.name, (event.device_time_total if cuda else event.time_range.elapsed_us()) * 1e-6)
        for event in profiler.events()
        if event.device_type == DeviceType.CPU
    ]
    labelled = any(name in _LABELS for name, _ in spans)
    found = dict.fromkeys(PHASES, 0.0)
    for name, span in spans:
        phase = _LABELS.get(name) if labelled else _phase_of_operator(name)
        if phase is not None:
            found[phase] += span
    for phase in before:
        found[phase] += clocks[phase] - before[phase]
    rest = max(0.0, seconds - sum(found.values()))
    if not labelled:
        found["elementwise"], rest = rest, 0.0
    return {
        phase: span * (1.0 if phase == "communication" else scale) for phase, span in found.items()
    } | {"other": rest}


def _phase_of_operator(name: str) -> str | None:
    if name.startswith(_COLLECTIVES):
        return "communication"
    return _OPERATORS.get(name)
