"""The backbone's whole state out of DeepSpeed and back, free of ZeRO stage and world size.

DeepSpeed's own checkpoints are bound to both, and its universal ones do not cover torch's SGD.
A backbone is small beside a head, so its weights and momentum are gathered whole, in fp32.
Weights go back before `deepspeed.initialize`, which partitions what it is given; momentum after.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTUM = "momentum_buffer"


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
    """SGD's momentum of every trainable parameter, whole, fp32, on CPU; collective.

    Empty before the first step, when there is none yet.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    if not any(MOMENTUM in state for state in inner.state.values()):
        return {}
    momentum = {}
    for name, parameter in _trainable(engine.module):
        whole = safe_get_full_optimizer_state(parameter, MOMENTUM)
        if whole is None:
            whole = inner.state[parameter][MOMENTUM]
        momentum[name] = whole.detach().float().cpu().contiguous()
    return momentum


def restore_momentum(engine: Any, momentum: dict[str, Tensor]) -> None:
    """Put gathered momentum back into a freshly built engine of any ZeRO stage and world size."""
    if not momentum:
        return
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    # ZeRO 3 puts its flat partitions into the inner optimiser only while it steps.
    flats = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    for flat in flats or [p for group in inner.param_groups for p in group["params"]]:
        inner.state[flat][MOMENTUM] = torch.zeros_like(flat)
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        # ZeRO 1 and 2 link parameters to optimiser state at the first step, which is too late.
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in _trainable(engine.module):
        value = momentum[name].to(parameter.device)
        if hasattr(parameter, "ds_tensor"):
            safe_set_local_optimizer_state(parameter, _own_part(parameter, value), MOMENTUM)
        elif hasattr(parameter, "_hp_mapping"):
            safe_set_full_optimizer_state(parameter, value, MOMENTUM)
        else:
            inner.state[parameter][MOMENTUM].copy_(value)


def _own_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's slice of a ZeRO-3 parameter's state; the last one is padded with zeros."""
    size = parameter.ds_tensor.numel()
    padded = value.new_zeros(size * dist.get_world_size())
    padded[: value.numel()] = value.flatten()
    return padded[size * dist.get_rank() :][:size]


def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]
