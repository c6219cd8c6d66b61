"""ds.json: read, its "auto" values filled from the recipe, and what sf2 cannot honour refused.

ds_keys.py says what becomes of every key.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error, did_you_mean, why
from sf2cli.recipe import Recipe
from sf2cli.training.ds_keys import (
    FP16_COUNTS,
    FP16_HONOURED,
    HONOURED,
    OFFLOAD_HONOURED,
    OPTIMIZER_HONOURED,
    OPTIMIZERS,
    REFUSED,
    WHOLE_TENSOR_OPTIMIZERS,
    ZERO_HONOURED,
)

_COMMUNICATION_TYPES = ("fp32", "fp16", "bf16")
_PRECISIONS = ("bf16", "fp16")


def load_ds_config(path: Path) -> dict[str, Any]:
    """Read ds.json.

    Raises:
        Sf2Error: no such file, not JSON, not an object, or a setting that sf2 cannot honour.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Sf2Error(
            f"--deepspeed {path}: no such file", "configs/ has ds_*.json files to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"--deepspeed {path}: cannot be read ({why(failure)})") from None
    except (ValueError, RecursionError) as failure:
        raise Sf2Error(f"--deepspeed {path}: not JSON ({failure})") from None
    if not isinstance(config, dict):
        raise Sf2Error(f"--deepspeed {path}: expected an object, found {type(config).__name__}")
    _refuse_unhonoured(path, config)
    return config


def _refuse_unhonoured(path: Path, config: dict[str, Any]) -> None:
    for key, value in config.items():
        if key in HONOURED or (key in REFUSED and _is_off(value)):
            continue
        if key in REFUSED:
            raise Sf2Error(f"--deepspeed {path}: {key}: sf2 cannot honour it: {REFUSED[key]}")
        raise Sf2Error(
            f"--deepspeed {path}: {key}: not a setting of DeepSpeed 0.19"
            f"{did_you_mean(key, HONOURED)}",
            f"Remove it; sf2 honours {', '.join(sorted(HONOURED))}.",
        )
    _check_zero(path, _section(path, config, "zero_optimization", ZERO_HONOURED))
    _check_fp16(path, _section(path, config, "fp16", FP16_HONOURED))
    _section(path, config, "bf16", frozenset({"enabled"}))
    _check_optimizer(path, config)
    communication = config.get("communication_data_type", "fp32")
    if communication not in _COMMUNICATION_TYPES:
        raise Sf2Error(
            f"--deepspeed {path}: communication_data_type: expected"
            f" {', '.join(_COMMUNICATION_TYPES)}, found {communication!r}"
        )
    clipping = config.get("gradient_clipping", "auto")
    if clipping != "auto" and not _is_number(clipping):
        raise Sf2Error(
            f"--deepspeed {path}: gradient_clipping: expected the largest norm to allow, or 0,"
            f" found {clipping!r}"
        )


def _is_off(value: object) -> bool:
    if isinstance(value, dict):
        return not value or value.get("enabled", True) in (False, "auto")
    return value in (False, 0, None)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _section(
    path: Path, config: dict[str, Any], name: str, honoured: frozenset[str]
) -> dict[str, Any]:
    section = config.get(name, {})
    if not isinstance(section, dict):
        raise Sf2Error(f"--deepspeed {path}: {name}: expected an object, found {section!r}")
    for key, value in section.items():
        if key not in honoured and not _is_off(value):
            raise Sf2Error(
                f"--deepspeed {path}: {name}.{key}: sf2 cannot honour it"
                f"{did_you_mean(key, honoured)}",
                f"Remove it; of {name}, sf2 honours {', '.join(sorted(honoured))}.",
            )
    return section


def _check_zero(path: Path, zero: dict[str, Any]) -> None:
    where = f"--deepspeed {path}: zero_optimization"
    for key, value in zero.items():
        number = isinstance(value, bool) or _is_number(value)
        if key in ZERO_HONOURED - {"offload_optimizer"} and value != "auto" and not number:
            raise Sf2Error(f"{where}.{key}: expected a number, true or false, found {value!r}")
    stage = zero.get("stage", 0)
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise Sf2Error(f"{where}.stage: expected 0, 1, 2 or 3, found {stage!r}")
    offload = _section(path, zero, "offload_optimizer", OFFLOAD_HONOURED)
    device = offload.get("device", "none")
    if device not in ("none", "cpu"):
        raise Sf2Error(f"{where}.offload_optimizer.device: expected cpu or none, found {device!r}")
    if device == "cpu" and stage == 0:
        raise Sf2Error(
            f"{where}.offload_optimizer: stage is 0, which has nothing to offload",
            "Say stage 1, 2 or 3.",
        )


def _check_fp16(path: Path, fp16: dict[str, Any]) -> None:
    for key in ("loss_scale", *FP16_COUNTS):
        value = fp16.get(key, 1)
        least = 0 if key in ("loss_scale", "initial_scale_power") else 1
        whole = key == "loss_scale" or isinstance(value, int)
        if not _is_number(value) or value < least or not whole:
            raise Sf2Error(
                f"--deepspeed {path}: fp16.{key}: expected a number of {least} or more,"
                f" found {value!r}"
            )


def _check_optimizer(path: Path, config: dict[str, Any]) -> None:
    if "optimizer" not in config:
        return
    section = _section(path, config, "optimizer", OPTIMIZER_HONOURED)
    where = f"--deepspeed {path}: optimizer"
    kind, params = section.get("type"), section.get("params", {})
    known = {**OPTIMIZERS, **WHOLE_TENSOR_OPTIMIZERS}
    if not isinstance(kind, str) or kind.lower() not in known:
        raise Sf2Error(f"{where}.type: expected {', '.join(known.values())}, found {kind!r}")
    stage = config.get("zero_optimization", {}).get("stage", 0)
    if kind.lower() in WHOLE_TENSOR_OPTIMIZERS and stage:
        raise Sf2Error(
            f"{where}.type: {kind} looks at whole tensors, which ZeRO {stage} cuts up",
            "Say stage 0, or take another optimiser.",
        )
    if not isinstance(params, dict):
        raise Sf2Error(f"{where}.params: expected an object, found {params!r}")
    if "max_grad_norm" in params:
        raise Sf2Error(f"{where}.params.max_grad_norm: its name is gradient_clipping")
    lr = params.get("lr", "auto")
    if lr != "auto" and not (_is_number(lr) and lr > 0):
        raise Sf2Error(f'{where}.params.lr: expected a number above 0 or "auto", found {lr!r}')


def fill_ds_config(
    config: dict[str, Any], recipe: Recipe, world_size: int, path: Path
) -> dict[str, Any]:
    """The config DeepSpeed gets: "auto" and absent values from the recipe, the rest checked.

    The recipe's batch_size is the global one; micro batch x accumulation x ranks must equal it.

    Raises:
        Sf2Error: numbers that contradict the recipe or do not divide.
    """
    filled = dict(config)
    accumulation = _number(config, "gradient_accumulation_steps", 1, path)
    _agree(config, "train_batch_size", recipe.batch_size, "the recipe's batch_size", path)
    if recipe.batch_size % (world_size * accumulation):
        raise Sf2Error(
            f"batch_size {recipe.batch_size} of the recipe does not divide by {world_size} ranks"
            f" x {accumulation} accumulation steps",
            "Change batch_size, --nproc or gradient_accumulation_steps.",
        )
    micro = recipe.batch_size // (world_size * accumulation)
    what = f"batch_size {recipe.batch_size} / ({world_size} ranks x {accumulation} accumulation)"
    _agree(config, "train_micro_batch_size_per_gpu", micro, what, path)
    filled.update(
        train_batch_size=recipe.batch_size,
        train_micro_batch_size_per_gpu=micro,
        gradient_accumulation_steps=accumulation,
        zero_optimization={"stage": 0, **config.get("zero_optimization", {})},
        gradient_clipping=_default(config.get("gradient_clipping"), 0.0),
    )
    for name in _PRECISIONS:
        filled[name] = _fill_precision(config.get(name, {}), name, recipe, path)
    if "optimizer" in config:
        filled["optimizer"] = _fill_optimizer(config["optimizer"], recipe)
    return filled


def for_deepspeed(filled: dict[str, Any], cuda: bool) -> dict[str, Any]:
    """The filled config as DeepSpeed itself gets it.

    Precision, clipping and loss scaling are sf2's: backbone and head share them.
    """
    mine = {"bf16", "fp16", "gradient_clipping"}
    config = {key: value for key, value in filled.items() if key not in mine}
    config.update(
        # DeepSpeed's default is 1.0.
        gradient_clipping=0.0,
        # DeepSpeed counts torch's optimisers among those it has not tested with ZeRO.
        zero_allow_untested_optimizer=True,
        zero_force_ds_cpu_optimizer=False,
        steps_per_print=2**31,
    )
    if "optimizer" in config and not cuda and not offloads(filled):
        params = dict(config["optimizer"]["params"])
        if config["optimizer"]["type"] in ("Adam", "AdamW"):
            # Without it DeepSpeed compiles a kernel of its own, for minutes on a busy machine.
            params.setdefault("torch_adam", True)
        config["optimizer"] = {**config["optimizer"], "params": params}
    return config


def offloads(filled: dict[str, Any]) -> bool:
    """Whether the optimiser's state and step are on the CPU whatever the device."""
    section = filled["zero_optimization"].get("offload_optimizer") or {}
    return bool(section.get("device") == "cpu")


def _fill_precision(
    section: dict[str, Any], name: str, recipe: Recipe, path: Path
) -> dict[str, Any]:
    wanted = recipe.precision == name
    enabled = section.get("enabled", "auto")
    if enabled not in ("auto", wanted):
        raise Sf2Error(
            f"--deepspeed {path}: {name}.enabled is {enabled!r} but the recipe's precision is"
            f" {recipe.precision}",
            'Say "auto" in ds.json, or change `precision` in the recipe.',
        )
    return {**section, "enabled": wanted}


def _fill_optimizer(section: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Canonical name; "auto" means the recipe's value, or else the optimiser's own default."""
    kind = {**OPTIMIZERS, **WHOLE_TENSOR_OPTIMIZERS}[section["type"].lower()]
    params = {"lr": "auto", "weight_decay": "auto", **section.get("params", {})}
    settings = recipe.optimizer.model_dump()
    for key in [key for key, value in params.items() if value == "auto"]:
        if key in ("lr", "weight_decay"):
            params[key] = settings[key]
        else:
            del params[key]
    return {"type": kind, "params": params}


def _default(value: Any, default: float) -> Any:
    return default if value in (None, "auto") else value


def _number(config: dict[str, Any], key: str, default: int, path: Path) -> int:
    value = config.get(key, "auto")
    if value == "auto":
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Sf2Error(f"--deepspeed {path}: {key}: expected a positive integer, found {value!r}")
    return value


def _agree(config: dict[str, Any], key: str, expected: int, what: str, path: Path) -> None:
    found = _number(config, key, expected, path)
    if found != expected:
        raise Sf2Error(
            f"--deepspeed {path}: {key} is {found}, but {what} makes it {expected}",
            'Say "auto" in ds.json.',
        )
