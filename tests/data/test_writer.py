import tarfile
import warnings

import numpy as np
import pytest

from sf2cli.data.encode import stored_form
from sf2cli.data.journal import Journal
from sf2cli.data.writer import SetWriter
from tests.pictures import encode, files_below, noise, stored, write_set

with warnings.catch_warnings():
    # The library's own imports warn on some Pythons.
    warnings.simplefilter("ignore")
    import webdataset


def pictures():
    """Three identities with 4, 1 and 6 images, JPEG and PNG, of differing lengths."""
    seeds = iter(range(100))
    return [
        [
            stored_form(encode(noise(12, 12, seed=next(seeds)), ("JPEG", "PNG")[j % 2]), None, None)
            for j in range(count)
        ]
        for count in (4, 1, 6)
    ]


@pytest.fixture
def packed(tmp_path):
    return write_set(tmp_path / "set", pictures(), shard_bytes=8000)


def shard_paths(packed):
    return [packed.folder / shard.file for shard in packed.manifest.shards]


def test_the_same_images_give_the_same_bytes(packed, tmp_path):
    (tmp_path / "again").mkdir()
    write_set(tmp_path / "again" / "set", pictures(), shard_bytes=8000)
    first = files_below(packed.folder)
    assert len(first) >= 5
    assert files_below(tmp_path / "again" / "set") == first


def test_tars_are_ustar_without_times_owners_or_overhead(packed):
    for path in shard_paths(packed):
        content = path.read_bytes()
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        blocks = sum(1 + -(-member.size // 512) for member in members)
        assert len(content) == 512 * (blocks + 2)
        assert content[-1024:] == bytes(1024)
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            assert (member.mode, member.type) == (0o444, tarfile.REGTYPE)
            assert not member.pax_headers
            assert content[member.offset + 257 : member.offset + 265] == b"ustar\x0000"


def test_the_index_leads_to_every_image(packed):
    flat = [image for images in pictures() for image in images]
    labels = [label for label, images in enumerate(pictures()) for _ in images]
    index = np.load(packed.folder / "index.npy")
    assert index.shape == (11, 4)
    for i, (shard, offset, size, label) in enumerate(index.tolist()):
        content = shard_paths(packed)[shard].read_bytes()
        assert content[offset : offset + size] == flat[i].data == packed.read(i)
        assert label == labels[i] == packed.label(i)
    assert packed.labels.tolist() == labels


def test_plain_webdataset_reads_the_shards(packed):
    flat = [image for images in pictures() for image in images]
    counts = []
    i = 0
    for path in shard_paths(packed):
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
        counts.append(len(samples))
        for sample in samples:
            assert sample["__key__"] == packed.key(i) == f"{i:09d}"
            assert sample[flat[i].kind] == flat[i].data
            assert int(sample["cls"]) == packed.label(i)
            fields = {name for name in sample if not name.startswith("__")}
            assert fields == {"cls", flat[i].kind}
            i += 1
    assert i == 11
    assert counts == [shard.samples for shard in packed.manifest.shards]


def test_no_shard_grows_over_the_limit(packed):
    sizes = [path.stat().st_size for path in shard_paths(packed)]
    assert len(sizes) > 1
    assert max(sizes) <= 8000
    assert sizes == [shard.bytes for shard in packed.manifest.shards]


def test_an_image_over_the_limit_has_a_shard_of_its_own(tmp_path):
    packed = write_set(tmp_path / "set", pictures(), shard_bytes=1)
    assert [shard.samples for shard in packed.manifest.shards] == [1] * 11
    assert [packed.label(i) for i in range(11)] == [0] * 4 + [1] + [2] * 6


def test_the_manifest_counts(packed):
    manifest = packed.manifest
    assert (manifest.name, manifest.samples) == ("set", 11)
    assert manifest.identities == ["id0", "id1", "id2"]
    assert manifest.samples_per_identity == [4, 1, 6]
    assert (manifest.image.size, manifest.image.colour) == ((12, 12), "RGB")


def test_the_image_format_is_that_of_all_images(tmp_path):
    grey = write_set(tmp_path / "grey", [[stored(noise(8, 6, 1))]])
    assert (grey.manifest.image.size, grey.manifest.image.colour) == ((8, 6), "L")
    mixed = write_set(tmp_path / "mixed", [[stored(noise(8, 6, 1)), stored(noise(8, 8))]])
    assert (mixed.manifest.image.size, mixed.manifest.image.colour) == (None, "RGB")


def test_without_finish_there_is_no_manifest(tmp_path):
    (tmp_path / "set").mkdir()
    journal = Journal(tmp_path, {"started_ns": 0})

    def leave_early():
        with SetWriter(tmp_path / "set", "set", 1000, journal) as writer:
            writer.add_identity("a", 0)
            writer.add_image(stored(noise(4, 4)), "a/1", 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["sources.txt"]
