"""The numbers of accelerators, from their makers' data sheets, and of other machines in JSON.

Rates are dense (no sparsity), links one way for one device. A file of one's own:

    {"name": "mine", "devices_per_host": 8, "memory_gb": 80, "fp32_tflops": 67,
     "bf16_tflops": 989, "memory_gb_per_s": 3350, "intra_gb_per_s": 450, "inter_gb_per_s": 50}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sf2cli.errors import Sf2Error, did_you_mean, why


class Device(BaseModel):
    """One accelerator and its links. GB is 10^9 bytes; an absent bf16 rate means no units for it.

    Attributes:
        memory_gb: on the device.
        fp32_tflops: of the vector units, which torch uses for fp32 products by default.
        bf16_tflops: of the matrix units, dense.
        memory_gb_per_s: of the device's memory.
        intra_gb_per_s: to the other devices of the host, one way.
        inter_gb_per_s: this device's share of the host's network, one way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    memory_gb: float = Field(gt=0, allow_inf_nan=False)
    fp32_tflops: float = Field(gt=0, allow_inf_nan=False)
    bf16_tflops: float | None = Field(None, gt=0, allow_inf_nan=False)
    memory_gb_per_s: float = Field(gt=0, allow_inf_nan=False)
    intra_gb_per_s: float = Field(gt=0, allow_inf_nan=False)
    inter_gb_per_s: float = Field(gt=0, allow_inf_nan=False)


class Machine(Device):
    """A host with `devices_per_host` equal devices: what a `--target FILE.json` holds."""

    devices_per_host: int = Field(ge=1, le=1024)


def _device(
    name: str, memory: float, fp32: float, bf16: float | None, bandwidth: float, *links: float
) -> Device:
    intra, inter = links
    return Device(
        name=name,
        memory_gb=memory,
        fp32_tflops=fp32,
        bf16_tflops=bf16,
        memory_gb_per_s=bandwidth,
        intra_gb_per_s=intra,
        inter_gb_per_s=inter,
    )


# The network is the usual one of the maker's own hosts: 100 Gbit/s for two V100, 200 Gbit/s for an
# A100 and an L40S, 400 Gbit/s for an H100, H200 and B200.
DEVICES = {
    device.name: device
    for device in (
        _device("v100-32", 32, 15.7, None, 900, 150, 6.25),
        _device("a100-40", 40, 19.5, 312, 1555, 300, 25),
        _device("a100-80", 80, 19.5, 312, 2039, 300, 25),
        _device("h100", 80, 67, 989, 3350, 450, 50),
        _device("h200", 141, 67, 989, 4800, 450, 50),
        _device("b200", 180, 75, 2250, 8000, 900, 50),
        _device("l40s", 48, 91.6, 362, 864, 32, 25),
        _device("rtx4090", 24, 82.6, 165, 1008, 32, 12.5),
    )
}


def find_machine(target: str) -> Machine:
    """The machine of `--target`: N devices of the table, as in 8xh100, or a JSON file.

    Raises:
        Sf2Error: neither; the message names the field of a file that is wrong.
    """
    if target.endswith(".json"):
        return _read_machine(Path(target))
    match = re.fullmatch(r"(\d{1,4})x(.+)", target.lower())
    if match is None or match[2] not in DEVICES or not 1 <= int(match[1]) <= 1024:
        raise Sf2Error(
            f"--target: found {target!r}, expected N devices a host as in 8xh100, or FILE.json",
            f"The devices are {', '.join(DEVICES)}.",
        )
    return Machine(devices_per_host=int(match[1]), **DEVICES[match[2]].model_dump())


def _read_machine(path: Path) -> Machine:
    try:
        return Machine.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise Sf2Error(f"--target {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise Sf2Error(f"--target {path}: cannot be read ({why(failure)})") from None
    except json.JSONDecodeError as failure:
        raise Sf2Error(f"--target {path}: not JSON ({failure})") from None
    except ValidationError as failure:
        wrong = "; ".join(_explain(error) for error in failure.errors())
        fields = ", ".join(Machine.model_fields)
        raise Sf2Error(f"--target {path}: {wrong}", f"Its fields are {fields}.") from None


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown field {where}{did_you_mean(where, Machine.model_fields)}"
    return f"{where}: {error['msg']} (found {error['input']!r})"
