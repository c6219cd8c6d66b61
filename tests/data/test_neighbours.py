"""The files beside the shards, read as their readers do."""

import json
import warnings

import numpy as np
import pytest

from tests.pictures import noise, stored, write_set

with warnings.catch_warnings():
    # The library's own imports warn on some Pythons.
    warnings.simplefilter("ignore")
    import webdataset


@pytest.fixture
def packed(tmp_path):
    pictures = [[stored(noise(12, 12, seed=10 * i + j)) for j in range(4)] for i in range(5)]
    packed = write_set(tmp_path / "set", pictures, shard_bytes=9000)
    assert len(packed.manifest.shards) > 2
    return packed


def test_webdataset_reads_the_shards_of_the_wids_index(packed):
    index = json.loads((packed.folder / "wids.json").read_text())
    assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
    shards = index["shardlist"]
    assert shards == sorted(shards, key=lambda shard: shard["url"])
    i = 0
    for shard in shards:
        path = packed.folder / shard["url"]
        assert path.stat().st_size == shard["filesize"]
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8"))
        assert len(samples) == shard["nsamples"]
        for sample in samples:
            assert np.array_equal(sample["png"], packed.decode(i, 12, 3))
            assert sample["cls"] == packed.label(i)
            i += 1
    assert i == len(packed)


def test_sizes_are_those_that_open_clip_adds_up(packed):
    sizes = json.loads((packed.folder / "sizes.json").read_text())
    urls = sorted(str(path) for path in packed.folder.glob("*.tar"))
    assert sum(sizes[url.rpartition("/")[2]] for url in urls) == len(packed)
    assert len(sizes) == len(urls)
