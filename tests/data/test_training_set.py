"""What `data.shards` may name: the same samples, whichever way they are reached."""

import os
import shutil
import tarfile
import threading
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from sf2cli.data import training_set
from sf2cli.data.loader import TrainLoader
from sf2cli.data.order import EpochOrder
from sf2cli.data.packed import PackedSet
from sf2cli.data.training_set import open_training_set
from sf2cli.errors import Sf2Error
from tests.data.plain_shards import (
    BATCH,
    COUNTS,
    LABELS,
    SAMPLES,
    add_member,
    as_json,
    drawn,
    label_of,
    loader_of,
    served,
    write_tars,
)
from tests.data.test_images import huge_png
from tests.pictures import encode, noise, stored, write_set


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    return write_tars(tmp_path_factory.mktemp("plain") / "x")


def opened(word, cache, room=10**6, window=2):
    return open_training_set(str(word), cache, room, window)


def check_set(packed, names):
    assert packed.manifest.identities == names
    ids = {label: sorted(LABELS).index(label) for label in LABELS}
    assert packed.labels.tolist() == [ids[label_of(i)] for i in range(SAMPLES)]
    for i in (0, 11, SAMPLES - 1):
        assert (packed.decode(i, 4, 1) == i).all()
        assert packed.source(i) == f"{names[ids[label_of(i)]]}/a/{i:03d}.png"


def check_epochs(packed):
    """Each sample once but for the remainder, anew each epoch, on any ranks and workers."""
    whole = drawn(loader_of(packed).epoch(0))
    assert [len(batch) for batch in whole] == [BATCH] * (SAMPLES // BATCH)
    samples = [sample for batch in whole for sample, _ in batch]
    assert len(set(samples)) == len(samples)
    assert drawn(loader_of(packed).epoch(1)) != whole
    for world_size in (2, 3):
        parts = [
            drawn(loader_of(packed, rank, world_size, workers=2 - rank % 2).epoch(0))
            for rank in range(world_size)
        ]
        assert [list(chain(*slices)) for slices in zip(*parts, strict=True)] == whole
    assert drawn(loader_of(packed, workers=1).epoch(0, 2)) == whole[2:]
    return whole


def test_plain_tars_need_no_manifest(tars, tmp_path):
    folder = opened(tars[0].parent, tmp_path)
    check_set(folder, ["7", "12", "900"])
    assert folder.window is None
    check_epochs(folder)
    check_set(opened(tars[0].parent / "x-{0..5}.tar", tmp_path), ["7", "12", "900"])


def test_labels_may_be_in_json(tmp_path):
    write_tars(tmp_path / "x", as_json)
    packed = opened(tmp_path / "x", tmp_path / "cache")
    assert packed.manifest.identities == ["p12", "p7", "p900"]
    assert packed.manifest.identities[packed.label(1)] == "p900"


def test_tars_of_a_packed_set_keep_its_names(tmp_path):
    pictures = [[stored(noise(4, 4, 1, seed)) for seed in range(3)] for _ in range(4)]
    whole = write_set(tmp_path / "set", pictures, shard_bytes=9000)
    assert len(whole.manifest.shards) > 1
    some = opened(tmp_path / "set" / "set-{000000..000001}.tar", tmp_path / "cache")
    last = int(some.labels.max()) + 1
    assert some.manifest.identities == [f"id{i}" for i in range(last)]


def test_the_index_is_kept_until_a_tar_changes(tmp_path, monkeypatch):
    tars, cache = write_tars(tmp_path / "x"), tmp_path / "cache"
    scans = []
    scan = training_set.scan_shards
    monkeypatch.setattr(
        training_set, "scan_shards", lambda *args: scans.append(args[1]) or scan(*args)
    )
    first = opened(tars[0].parent, cache)
    assert (opened(tars[0].parent, cache).labels == first.labels).all()
    assert len(scans) == 1
    os.utime(tars[2], ns=(1, 1))
    second = opened(tars[0].parent, cache)
    assert len(scans) == 2
    # A damaged index is made again.
    (second.folder / "index.npy").write_bytes(b"?" * 100)
    check_set(opened(tars[0].parent, cache), ["7", "12", "900"])
    assert len(scans) == 3
    # Those who come at the same time wait for the one who scans.
    shutil.rmtree(cache)
    threads = [threading.Thread(target=opened, args=(tars[0].parent, cache)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scans) == 4


def test_a_scan_that_fails_names_the_tar_and_leaves_nothing(tmp_path):
    tars = write_tars(tmp_path / "x", missing=13)
    with pytest.raises(Sf2Error, match=r"data.shards .*x-2.tar: sample a/013: it has no label"):
        opened(tars[0].parent, tmp_path / "cache")
    tars[0].write_bytes(tars[0].read_bytes()[:3000])
    with pytest.raises(Sf2Error, match=r"data.shards .*x-0.tar: at byte"):
        opened(tars[0].parent, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache" / "index").iterdir() if path.is_dir()] == []
    with pytest.raises(Sf2Error, match=r"x-6.tar cannot be read \(No such file"):
        opened(tars[0].parent / "x-{1..9}.tar", tmp_path / "cache")


@pytest.mark.parametrize("way", ["http", "pipe"])
def test_shards_from_afar_stream_in_windows(way, tars, tmp_path):
    with served(tars[0].parent) as (url, asked):
        word = (
            f"{url}/x-{{0..5}}.tar"
            if way == "http"
            else f"pipe:cat {tars[0].parent}/x-{{0..5}}.tar"
        )
        room = 5 * max(tar.stat().st_size for tar in tars)
        packed = opened(word, tmp_path, room)
        check_set(packed, ["7", "12", "900"])
        shards = packed.folder.parent / "shards"
        whole = check_epochs(packed)
        # Two shards' samples are shuffled together, and done with before the next two begin.
        shard_of = np.repeat(np.arange(6), COUNTS)
        seen = [int(shard_of[sample]) for batch in whole for sample, _ in batch]
        first, second = set(seen[:6]), set(seen[-3:])
        assert len(first) <= 3
        assert not first & second
        assert sum(path.stat().st_size for path in shards.glob("*.tar")) <= room
        if way == "http":
            assert all(f"/x-{i}.tar" in asked for i in range(6))
        # It is read once for its index, not at each start.
        shutil.rmtree(shards)
        asked.clear()
        again = opened(word, tmp_path, room)
        assert [path for path in asked if path.endswith(".tar")] == []
        # Near the end of an epoch only its last shards are fetched.
        assert drawn(loader_of(again).epoch(0, 4)) == whole[4:]
        order = EpochOrder.draw(np.array(COUNTS), 2, 1, 0)
        last = np.concatenate(order.windows[order.window_of(4 * BATCH) :])
        assert len(last) < 6
        assert {int(path.stem) for path in shards.glob("*.tar")} == set(last.tolist())


@pytest.mark.parametrize("names", ["", "/set-{000000..000003}.tar"])
def test_a_packed_set_is_fetched_with_its_index(names, tmp_path):
    pictures = [[stored(noise(4, 4, 1, 10 * i + j)) for j in range(4)] for i in range(3)]
    there = write_set(tmp_path / "set", pictures, shard_bytes=9000)
    assert len(there.manifest.shards) == 4
    with served(tmp_path) as (url, asked):
        packed = opened(f"{url}/set{names}", tmp_path / "cache")
        assert not any(path.endswith(".tar") for path in asked)
        assert (packed.labels == there.labels).all()
        for i in range(12):
            assert packed.source(i) == there.source(i)
            assert (packed.decode(i, 4, 1) == there.decode(i, 4, 1)).all()
        assert sum(path.endswith(".tar") for path in asked) == 4
        # The same set reached again is the same run's; another one is not.
        same = opened(f"{url}/set{names}", tmp_path / "cache")
        assert same.folder == packed.folder
        assert (there.folder / "manifest.json").read_bytes() == (
            same.folder / "manifest.json"
        ).read_bytes()


def test_what_cannot_be_read_from_afar_is_named(tars, tmp_path):
    with served(tars[0].parent) as (url, _):
        for word, message in (
            (f"{url}/none", r"none/manifest.json: HTTP status 404"),
            (f"{url}/x-{{5..6}}.tar", r"x-6.tar: HTTP status 404"),
            ("pipe:echo no >&2; exit 3", r"exit status 3: no"),
            ("pipe:head -c 700 " + str(tars[0]), r"data.shards pipe:head .*: at byte"),
            ("s3://bucket/x.tar", r"only http, https and pipe: can be read"),
        ):
            with pytest.raises(Sf2Error, match=message):
                opened(word, tmp_path / "cache")
        packed = opened(f"{url}/x-{{0..5}}.tar", tmp_path / "cache")
        with pytest.raises(Sf2Error, match=r"4 of its shards take .* data.cache_gb is 2e-06"):
            opened(f"{url}/x-{{0..5}}.tar", tmp_path / "cache", room=2000)
        shutil.rmtree(packed.folder.parent / "shards")
        content = tars[0].read_bytes()
        try:
            tars[0].write_bytes(content[:-1] + b"?")
            with pytest.raises(Sf2Error, match=r"x-0.tar: .* where the index says"):
                list(loader_of(packed, workers=1).epoch(0))
        finally:
            tars[0].write_bytes(content)


def test_a_packed_sets_folder_is_read_where_it_lies(tmp_path):
    write_set(tmp_path / "set", [[stored(noise(4, 4, 1))]])
    packed = opened(tmp_path / "set", tmp_path / "cache")
    assert isinstance(packed, PackedSet)
    assert packed.folder == tmp_path / "set"
    assert not (tmp_path / "cache").exists()


def test_only_what_is_no_image_counts_as_damaged(tmp_path, capsys):
    """In a tar of anyone's: each bad one by its name, and odd but good images are read."""
    grey = noise(4, 4, 1)
    deep = Image.fromarray(grey[:, :, 0].astype(np.uint16) << 8)
    images = {
        "zero.png": b"",
        "garbage.jpg": b"\xff\xd8\xff" + bytes(500),
        "bomb.png": huge_png(60_000, 60_000),
        "cut.jpg": encode(noise(16, 16), "JPEG")[:300],
        "cmyk.jpg": encode(Image.fromarray(noise(4, 4)).convert("CMYK"), "JPEG"),
        "deep.png": encode(deep, "PNG"),
        "webp.webp": encode(Image.fromarray(noise(4, 4)), "WEBP"),
        "../../escape.png": encode(grey[:, :, 0], "PNG"),
    }
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for label, (name, content) in enumerate(images.items()):
            add_member(tar, name, content)
            add_member(tar, name.rpartition(".")[0] + ".cls", str(2 * label).encode())
    packed = opened(tmp_path / "x.tar", tmp_path / "cache")
    assert len(packed) == len(images)
    loader = TrainLoader(
        packed,
        batch_size=len(images),
        rank=0,
        world_size=1,
        seed=0,
        image_size=4,
        channels=1,
        flip=False,
        workers=0,
        max_bad=4,
    )
    ((_, labels),) = loader.epoch(0)
    # The labels have gaps; the class ids none. Of the damaged ones none is left.
    assert set(labels.tolist()) == {4, 5, 6, 7}
    told = [line for line in capsys.readouterr().err.splitlines() if "skipped: " in line]
    assert len(told) == len(loader.bad_samples) == 4
    for name in ("0/zero.png", "2/garbage.jpg", "4/bomb.png", "6/cut.jpg"):
        assert sum(f"({name}): " in line for line in told) == 1
