"""What shards/README.md says is true of a set, and its commands run."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sf2cli.data.manifest import ImageFormat, Manifest, Shard
from sf2cli.data.pack import PackOptions, pack

README = (Path(__file__).parents[2] / "shards" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which shards/att-test is a packed set."""
    place = tmp_path_factory.mktemp("readme")
    pack("att", place / "shards" / "att", PackOptions(holdout=2, shard_bytes=100_000))
    return place


def test_the_snippet_reads_every_image(place):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=place, capture_output=True, text=True, check=True
    )
    assert done.stdout == "".join(f"{label} (92, 112)\n" * 10 for label in (0, 1))


def test_the_hashes_are_compared_as_said(place):
    (line,) = re.findall(r"^    (python -c .*)$", README, re.MULTILINE)
    command = line.replace("python", shlex.quote(sys.executable), 1)
    folder = place / "shards" / "att-test"

    def compare():
        return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)

    shards = sorted(path.name for path in folder.glob("*.tar"))
    assert len(shards) > 1
    assert compare().stdout == "".join(f"{name}: OK\n" for name in shards)
    content = (folder / shards[0]).read_bytes()
    try:
        (folder / shards[0]).write_bytes(b"?" + content[1:])
        assert compare().returncode != 0
    finally:
        (folder / shards[0]).write_bytes(content)


def test_every_field_is_in_the_table():
    table = [re.findall(r"`([a-z0-9_.]+)`", row) for row in re.findall(r"^\|(.*)", README, re.M)]
    named = {name for row in table for name in row}
    assert set(Manifest.model_fields) - {"image"} <= named
    assert {f"image.{name}" for name in ImageFormat.model_fields} <= named
    assert set(Shard.model_fields) <= named


def test_the_files_are_those_of_the_layout(place):
    folder = place / "shards" / "att-test"
    names = {re.sub(r"att-test-\d{6}", "NAME-000000", path.name) for path in folder.iterdir()}
    assert names == set(re.findall(r"^      (\S+\.\w+)", README, re.MULTILINE))


def test_the_index_is_as_said(place):
    folder = place / "shards" / "att-test"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    sources = (folder / "sources.txt").read_text(encoding="utf-8").splitlines()
    index = np.load(folder / "index.npy")
    assert (index.dtype, index.shape) == (np.int64, (20, 4))
    for source, (shard, offset, size, label) in zip(sources, index.tolist(), strict=True):
        content = (folder / manifest["shards"][shard]["file"]).read_bytes()
        assert content[offset : offset + 4] == b"\x89PNG"
        assert content[offset : offset + size].endswith(b"IEND\xaeB`\x82")
        assert source.split("/")[0] == manifest["identities"][label]
