import json

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.scaling.machines import DEVICES, find_machine

MINE = {
    "name": "mine",
    "devices_per_host": 4,
    "memory_gb": 48,
    "fp32_tflops": 90,
    "bf16_tflops": 360,
    "memory_gb_per_s": 860,
    "intra_gb_per_s": 32,
    "inter_gb_per_s": 12.5,
}


def test_a_device_of_the_table():
    machine = find_machine("8xH100")
    assert (machine.name, machine.devices_per_host, machine.memory_gb) == ("h100", 8, 80)
    assert machine.bf16_tflops == 989


def test_every_device_has_more_matrix_than_vector_rate_and_links_no_faster_than_memory():
    for device in DEVICES.values():
        assert device.bf16_tflops is None or device.bf16_tflops > device.fp32_tflops
        assert device.inter_gb_per_s <= device.intra_gb_per_s < device.memory_gb_per_s


@pytest.mark.parametrize(
    "target", ["", "h100", "0xh100", "8xh9000", "8h100", "-8xh100", "9999xh100"]
)
def test_an_unknown_target(target):
    with pytest.raises(Sf2Error, match=r"--target: found .*8xh100") as caught:
        find_machine(target)
    assert "a100-80" in caught.value.remedy


def test_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(MINE))
    assert find_machine(str(path)).model_dump() == MINE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memory_gb": None}, "memory_gb: Input should be a valid number"),
        ({"fp32_tflops": -1}, r"fp32_tflops: .*greater than 0 \(found -1\)"),
        ({"colour": "red"}, "unknown field colour"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, said):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**MINE, **change}))
    with pytest.raises(Sf2Error, match=said):
        find_machine(str(path))


def test_a_missing_field_is_named(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({key: MINE[key] for key in MINE if key != "inter_gb_per_s"}))
    with pytest.raises(Sf2Error, match="inter_gb_per_s is missing") as caught:
        find_machine(str(path))
    assert "devices_per_host" in caught.value.remedy


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "the file")])
def test_a_file_that_is_none(tmp_path, text, said):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(Sf2Error, match=said):
        find_machine(str(path))
    with pytest.raises(Sf2Error, match="no such file"):
        find_machine(str(tmp_path / "other.json"))
