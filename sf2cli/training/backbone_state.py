"""The backbone's whole state out of DeepSpeed and back, free of ZeRO stage and world size.

DeepSpeed's own checkpoints are bound to both, and its universal ones do not cover torch's SGD.
A backbone is small beside a head, so its weights and the state of its optimiser are gathered whole,
in fp32. Weights go back before `deepspeed.initialize`, which partitions what it is given; the
optimiser's state after.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sf2cli.errors import Sf2Error

STEP = "step"


def gather_weights(engine: Any) -> dict[str, Tensor]:
    """Every parameter and buffer of the engine's module, whole, fp32, on CPU; collective.

    Floating buffers (BatchNorm's running statistics differ by rank) are averaged over ranks.
    """
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    module: nn.Module = engine.module
    state: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        whole = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
        if whole is None:
            with GatheredParameters([parameter]):
                whole = parameter.detach().clone()
        state[name] = whole.detach().float().cpu().contiguous()
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            mean = buffer.detach().float().clone()
            dist.all_reduce(mean)
            state[name] = (mean / dist.get_world_size()).cpu()
        else:
            state[name] = buffer.detach().cpu().clone()
    return state


def gather_momentum(engine: Any) -> dict[str, Tensor]:
    """The optimiser's state of every trainable parameter, whole, fp32, on CPU; collective.

    `KEY/PARAMETER` holds a tensor of the parameter's shape, KEY being the optimiser's own name for
    it (SGD has momentum_buffer, Adam exp_avg and exp_avg_sq); `step` how many steps it counts.
    Empty before the first step, when there is none yet.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    inner = _inner(engine)
    states = [(key, state) for key, state in inner.state.items() if state]
    if not states:
        return {}
    partition, state = states[0]
    momentum = {
        f"{key}/{name}": _whole(
            safe_get_full_optimizer_state(parameter, key), inner.state.get(parameter, {}).get(key)
        )
        for key in _tensor_keys(state, partition)
        for name, parameter in _trainable(engine.module)
    }
    counts = [float(holder[STEP]) for holder in (state, *inner.param_groups) if STEP in holder]
    if counts:
        momentum[STEP] = torch.tensor(max(counts), dtype=torch.float64)
    return momentum


def restore_momentum(engine: Any, momentum: dict[str, Tensor]) -> None:
    """Put gathered state back into a freshly built engine of any ZeRO stage and world size.

    Raises:
        Sf2Error: the state is another optimiser's.
    """
    if not momentum:
        return
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    inner = _inner(engine)
    _create_state(engine, inner)
    partition, state = next((key, state) for key, state in inner.state.items() if state)
    keys = _tensor_keys(state, partition)
    saved = {name.split("/", 1)[0] for name in momentum if "/" in name}
    if set(keys) != saved:
        raise Sf2Error(
            f"--resume: the checkpoint's optimiser keeps {', '.join(sorted(saved))} for the"
            f" backbone; {type(inner).__name__} keeps {', '.join(sorted(keys))}",
            "Take the optimizer section of ds.json that the run was started with.",
        )
    for key in keys:
        for name, parameter in _trainable(engine.module):
            value = momentum[f"{key}/{name}"].to(parameter.device)
            if hasattr(parameter, "ds_tensor"):
                safe_set_local_optimizer_state(parameter, _own_part(parameter, value), key)
            elif hasattr(parameter, "_hp_mapping"):
                safe_set_full_optimizer_state(parameter, value, key)
            else:
                inner.state[parameter][key].copy_(value)
    if STEP in momentum:
        for holder in (*inner.state.values(), *inner.param_groups):
            if isinstance(holder.get(STEP), Tensor):
                holder[STEP].fill_(momentum[STEP].item())
            elif STEP in holder:
                holder[STEP] = int(momentum[STEP])


def _inner(engine: Any) -> torch.optim.Optimizer:
    """The optimiser behind ZeRO's, or without ZeRO the only one."""
    inner: torch.optim.Optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return inner


def _tensor_keys(state: dict[str, Any], partition: Tensor) -> list[str]:
    """The keys of a state whose values are as large as what they belong to."""
    return [
        key
        for key, value in state.items()
        if key != STEP and isinstance(value, Tensor) and value.numel() == partition.numel()
    ]


def _create_state(engine: Any, inner: torch.optim.Optimizer) -> None:
    """Have the optimiser create its state as it does itself: by a step of no length."""
    rates = [group["lr"] for group in inner.param_groups]
    for group in inner.param_groups:
        group["lr"] = 0.0
    # ZeRO 3 puts its flat partitions into the inner optimiser only while it steps.
    flats = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    if flats:
        for i, flat in enumerate(flats):
            group = inner.param_groups[engine.optimizer.sub_group_to_group_id[i]]
            group["params"] = [flat]
            _step_nowhere(inner, [flat])
            group["params"] = []
    else:
        _step_nowhere(inner, [p for group in inner.param_groups for p in group["params"]])
    for group, rate in zip(inner.param_groups, rates, strict=True):
        group["lr"] = rate
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        # ZeRO 1 and 2 link parameters to optimiser state at the first step, which is too late.
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _step_nowhere(inner: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    inner.step()
    for parameter, grad in zip(parameters, kept, strict=True):
        parameter.grad = grad


def _whole(gathered: Tensor | None, own: Tensor | None) -> Tensor:
    """ZeRO's gathered state, or without ZeRO the optimiser's own."""
    whole = own if gathered is None else gathered
    assert whole is not None
    return whole.detach().float().cpu().contiguous()


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's slice of a ZeRO-3 parameter's state; the last one is padded with zeros."""
    size = parameter.ds_tensor.numel()
    padded = value.new_zeros(size * dist.get_world_size())
    padded[: value.numel()] = value.flatten()
    return padded[size * dist.get_rank() :][:size]


def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]
