"""Rows on disk: plain safetensors, any range of them read back, every block checked as it is."""

import pytest
import torch
from safetensors.torch import load_file

from sf2cli.errors import DamagedError
from sf2cli.heads.shard_file import BLOCK_ROWS, RowLayout, read_rows, write_rows

ROWS, WIDTH = 2 * BLOCK_ROWS + 100, 3


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float64], ids=str)
def saved(request, tmp_path):
    """A file's path, its tensors, layout and hashes."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(ROWS, WIDTH, generator=generator).to(request.param)
        for name in ("weight", "momentum")
    }
    path = tmp_path / "rows.safetensors"
    hashes = write_rows(path, tensors)
    return path, tensors, RowLayout(tuple(tensors), ROWS, WIDTH, request.param), hashes


def read(saved, first, last, names=("weight", "momentum")):
    path, tensors, layout, hashes = saved
    into = {name: torch.empty(last - first, WIDTH, dtype=tensors[name].dtype) for name in names}
    read_rows(path, layout, hashes, into, first)
    return into


def test_a_file_is_safetensors_of_the_promised_size(saved):
    path, tensors, layout, hashes = saved
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(tensor) for name, tensor in tensors.items())
    assert path.stat().st_size == layout.size
    assert {name: len(each) for name, each in hashes.items()} == {"weight": 3, "momentum": 3}


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, ROWS), (1, 2), (BLOCK_ROWS - 1, BLOCK_ROWS + 1), (BLOCK_ROWS, 2 * BLOCK_ROWS), (5, ROWS)],
)
def test_any_range_comes_back(saved, first, last):
    for name, rows in read(saved, first, last).items():
        assert rows.equal(saved[1][name][first:last])


def test_one_tensor_of_two_comes_back(saved):
    (rows,) = read(saved, 0, ROWS, names=["momentum"]).values()
    assert rows.equal(saved[1]["momentum"])


def test_a_flipped_bit_is_noticed_where_it_is_read(saved):
    path, _, layout, _ = saved
    data = bytearray(path.read_bytes())
    data[layout.offset("momentum", BLOCK_ROWS + 7)] ^= 4
    path.write_bytes(data)
    read(saved, 0, ROWS, names=["weight"])
    read(saved, 0, BLOCK_ROWS)
    named = f"rows {BLOCK_ROWS} to {2 * BLOCK_ROWS} of momentum are not those"
    with pytest.raises(DamagedError, match=named):
        read(saved, BLOCK_ROWS, BLOCK_ROWS + 1)


def test_another_files_header_is_noticed(saved, tmp_path):
    path, tensors, layout, _ = saved
    other = {"weight": tensors["weight"].view(WIDTH, ROWS), "momentum": tensors["momentum"]}
    write_rows(path, {name: tensor.reshape(WIDTH, ROWS) for name, tensor in other.items()})
    assert path.stat().st_size == layout.size
    with pytest.raises(DamagedError, match="header is another file's"):
        read(saved, 0, 1)
