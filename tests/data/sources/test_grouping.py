import random

import pytest

from sf2cli.data.sources import grouping
from sf2cli.data.sources.grouping import InputFile

SIZE, STEPS = 500, 1000


@pytest.mark.parametrize("seed", range(3))
def test_reading_on_gives_what_stands_there_wherever_one_goes(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(grouping, "_AHEAD", 4 * SIZE)
    drawn = random.Random(seed)
    stands = drawn.randbytes(40_000)
    path = tmp_path / "file"
    path.write_bytes(stands)
    file, offset, from_disk = InputFile(path), 0, []
    read = file.read

    def noted(*asked):
        from_disk.append(asked)
        return read(*asked)

    monkeypatch.setattr(file, "read", noted)
    for _ in range(STEPS):
        assert file.read_on(offset, SIZE) == stands[offset : offset + SIZE]
        # Mostly on; at times back or anywhere, the end and what lies beyond it too.
        way = drawn.random()
        if way < 0.9:
            offset += drawn.randrange(SIZE)
        else:
            offset = drawn.randrange(offset + 1) if way < 0.95 else drawn.randrange(len(stands))
        offset = offset if offset < len(stands) + SIZE else 0
    assert len(from_disk) < STEPS / 2
