"""ds.json: read, its "auto" values filled from the recipe, and what sf2 cannot honour refused.

DeepSpeed itself ignores keys it does not know; sf2 names them instead, because a setting without
effect is worse than an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sf2cli.errors import Sf2Error
from sf2cli.recipe import Recipe

_BATCH_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
)
_ZERO_KEYS = {
    "stage",
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "overlap_comm",
    "reduce_bucket_size",
    "reduce_scatter",
    "round_robin_gradients",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "sub_group_size",
}
_PASSED_ON = {"communication_data_type", "prescale_gradients"}
_COMMUNICATION_TYPES = ("fp32", "fp16", "bf16")
_REFUSED = {
    "optimizer": "the optimiser of backbone and head is the recipe's `optimizer` section",
    "scheduler": "the learning rate is the recipe's `schedule` section",
    "gradient_clipping": "DeepSpeed would clip the backbone without the head",
    "fp16": "use bf16, which needs no loss scaling",
}


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
        raise Sf2Error(f"--deepspeed {path}: cannot be read ({failure})") from None
    except (ValueError, RecursionError) as failure:
        raise Sf2Error(f"--deepspeed {path}: not JSON ({failure})") from None
    if not isinstance(config, dict):
        raise Sf2Error(f"--deepspeed {path}: expected an object, found {type(config).__name__}")
    _refuse_unhonoured(path, config)
    return config


def _refuse_unhonoured(path: Path, config: dict[str, Any]) -> None:
    known = {*_BATCH_KEYS, *_PASSED_ON, "zero_optimization", "bf16"}
    for key, value in config.items():
        off = (
            value is False
            or value == 0
            or (isinstance(value, dict) and value.get("enabled", 1) in (False, "auto"))
        )
        if key in _REFUSED and not off:
            raise Sf2Error(f"--deepspeed {path}: {key}: sf2 cannot honour it: {_REFUSED[key]}")
        if key not in known and key not in _REFUSED:
            raise Sf2Error(
                f"--deepspeed {path}: {key}: sf2 cannot honour it",
                f"Remove it; sf2 honours {', '.join(sorted(known))}.",
            )
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise Sf2Error(f"--deepspeed {path}: zero_optimization: expected an object, found {zero!r}")
    for key in sorted(set(zero) - _ZERO_KEYS):
        raise Sf2Error(f"--deepspeed {path}: zero_optimization.{key}: sf2 cannot honour it")
    for key, value in zero.items():
        if value != "auto" and not (isinstance(value, (bool, int, float)) and value >= 0):
            raise Sf2Error(
                f"--deepspeed {path}: zero_optimization.{key}: expected a number, true or false,"
                f" found {value!r}"
            )
    communication = config.get("communication_data_type", "fp32")
    if communication not in _COMMUNICATION_TYPES:
        raise Sf2Error(
            f"--deepspeed {path}: communication_data_type: expected"
            f" {', '.join(_COMMUNICATION_TYPES)}, found {communication!r}"
        )
    stage = zero.get("stage", 0)
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise Sf2Error(
            f"--deepspeed {path}: zero_optimization.stage: expected 0, 1, 2 or 3, found {stage!r}"
        )
    bf16 = config.get("bf16", {})
    if not isinstance(bf16, dict) or set(bf16) - {"enabled"}:
        raise Sf2Error(f'--deepspeed {path}: bf16: expected {{"enabled": ...}}, found {bf16!r}')


def fill_ds_config(
    config: dict[str, Any], recipe: Recipe, world_size: int, path: Path
) -> dict[str, Any]:
    """The config DeepSpeed gets: "auto" and absent values from the recipe, the rest checked.

    The recipe's batch_size is the global one; micro batch x accumulation x ranks must equal it.

    Raises:
        Sf2Error: numbers that contradict the recipe or do not divide.
    """
    filled = {k: value for k, value in config.items() if k != "bf16" and k not in _REFUSED}
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
    bf16 = recipe.precision == "bf16"
    enabled = config.get("bf16", {}).get("enabled", "auto")
    if enabled not in ("auto", bf16):
        raise Sf2Error(
            f"--deepspeed {path}: bf16.enabled is {enabled!r} but the recipe's precision is"
            f" {recipe.precision}",
            'Say "auto" in ds.json, or change `precision` in the recipe.',
        )
    filled.update(
        train_batch_size=recipe.batch_size,
        train_micro_batch_size_per_gpu=micro,
        gradient_accumulation_steps=accumulation,
        # bf16 is DeepSpeed's autocast: fp32 weights, bf16 convolutions. Its own bf16 mode casts
        # BatchNorm's parameters but not its statistics, a mixture that torch refuses on CPU.
        torch_autocast={"enabled": bf16, "dtype": "bfloat16"},
        # DeepSpeed's default is 1.0, which would scale the backbone's gradient and not the head's.
        gradient_clipping=0.0,
        # DeepSpeed counts torch's SGD among the optimisers it has not tested with ZeRO.
        zero_allow_untested_optimizer=True,
        steps_per_print=2**31,
    )
    return filled


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
